// Vector symbols and JSON, hashing over GF(2).
#include <gtest/gtest.h>

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/matrix/householder.hpp>
#include <tessera/methods/gf2_hash.hpp>
#include <tessera/methods/json_vsa.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using nlohmann::json;

double cosine(const Eigen::VectorXd& a, const Eigen::VectorXd& b) { return a.dot(b) / (a.norm() * b.norm()); }

TEST(Vsa, AThousandBindingsKeepTheNormAndUndo) {
  const Index d = 64;
  const Eigen::VectorXd v = vsa_symbol<double>(d, "v");
  const auto dense = random_orthogonal<double>(d, 2);
  const auto reflections = random_reflections<double>(d, 3, 2);
  const VsaRole<double> role(d, "role");
  const auto check = [&](const auto& M, const char* name) {
    Eigen::VectorXd bound = v;
    for (int k = 0; k < 1000; ++k) bound = vsa_bind(M, bound);
    EXPECT_NEAR(bound.norm(), v.norm(), 1e-12) << name;
    for (int k = 0; k < 1000; ++k) bound = vsa_unbind(M, bound);
    EXPECT_LE((bound - v).norm(), 1e-11) << name;
    EXPECT_LE((vsa_unbind(M, vsa_bind(M, v)) - v).norm(), 1e-14) << name;
  };
  check(dense, "dense");
  check(reflections, "reflections");
  check(role, "Hadamard");
  // Gaussian matrices that keep norms on average do neither.
  Eigen::VectorXd bound = v;
  const Eigen::MatrixXd G = detail::normal_dense<double>(d, d, 3, 0).to_dense() / std::sqrt(static_cast<double>(d));
  for (int k = 0; k < 1000; ++k) bound = G * bound;
  EXPECT_GT(std::abs(std::log(bound.norm())), std::log(1e3));
  EXPECT_GT((G.transpose() * (G * v) - v).norm(), 0.5);
}

TEST(Vsa, RolesDoNotCommuteAndBundlesHoldTheirParts) {
  const Index d = 1024;
  const VsaRole<double> A(d, "a"), B(d, "b");
  const Eigen::VectorXd v = vsa_symbol<double>(d, "v"), w = vsa_symbol<double>(d, "w");
  EXPECT_LT(std::abs(cosine(vsa_bind(A, vsa_bind(B, v)), vsa_bind(B, vsa_bind(A, v)))), 0.2);
  const Eigen::VectorXd bundle = vsa_bundle(vsa_bind(A, v), vsa_bind(B, w));
  EXPECT_GT(cosine(vsa_unbind(A, bundle), v), 0.6);
  EXPECT_LT(std::abs(cosine(vsa_unbind(A, bundle), w)), 0.2);
  const Eigen::MatrixXd D = VsaRole<double>(64, "a").to_dense();
  EXPECT_LE((D * D.transpose() - Eigen::MatrixXd::Identity(64, 64)).norm(), 1e-13);
  EXPECT_LE((VsaRole<double>(64, "a").transpose().to_dense() - D.transpose()).norm(), 1e-13);
  EXPECT_THROW(VsaRole<float>(12, "a"), shape_error);
}

TEST(JsonVsa, AlikeDocumentsHaveAlikeVectors) {
  const Index d = 2048;
  const auto encoded = [&](const char* text) { return json_to_vsa<double>(json::parse(text), d); };
  const auto base =
      encoded(R"({"name": "Ada", "age": 36, "tags": ["math", "code"], "at": {"city": "London", "no": 7}})");
  const auto near =
      encoded(R"({"name": "Ada", "age": 37, "tags": ["math", "code"], "at": {"city": "London", "no": 7}})");
  const auto half = encoded(R"({"name": "Bob", "age": 36, "tags": ["art"], "at": {"city": "London", "no": 9}})");
  const auto far = encoded(R"([1, 2, {"x": null}])");
  EXPECT_GT(cosine(base, near), 0.9);
  EXPECT_GT(cosine(base, near), cosine(base, half));
  EXPECT_GT(cosine(base, half), cosine(base, far) + 0.2);
  EXPECT_EQ(base,
            encoded(R"({"at": {"no": 7, "city": "London"}, "age": 36, "name": "Ada", "tags": ["math", "code"]})"));
}

TEST(JsonVsa, NestingAndOrderShow) {
  const Index d = 1024;
  const auto encoded = [&](const char* text) { return json_to_vsa<double>(json::parse(text), d); };
  EXPECT_LT(cosine(encoded(R"({"a": {"b": 1}})"), encoded(R"({"b": {"a": 1}})")), 0.5);
  EXPECT_LT(cosine(encoded(R"(["x", "y"])"), encoded(R"(["y", "x"])")), 0.5);
  // What a key holds comes back by unbinding.
  const auto document = encoded(R"({"name": "Ada", "city": "London", "age": 36})");
  const Eigen::VectorXd value = vsa_unbind(VsaRole<double>(d, "key:name"), document);
  double best = 0, other = 0;
  for (const char* name : {"Ada", "Bob", "London"}) {
    const double c = cosine(value, vsa_symbol<double>(d, "value:\"" + std::string(name) + "\""));
    (std::string(name) == "Ada" ? best : other) = std::max(std::string(name) == "Ada" ? 0.0 : other, c);
  }
  EXPECT_GT(best, 0.4);
  EXPECT_LT(other, 0.2);
}

TEST(JsonVsa, AThousandLevelsStayBounded) {
  json nested = "leaf";
  for (int k = 0; k < 1000; ++k) nested = json{{"k" + std::to_string(k % 7), nested}};
  const double norm = json_to_vsa<double>(nested, 64).norm();
  EXPECT_GT(norm, 0.5);
  EXPECT_LT(norm, 20);
}

/// json_to_vsa's recursion over objects and strings, with role matrices of one's own.
Eigen::VectorXd encode(const json& document, Index d,
                       const std::function<const Eigen::MatrixXd&(const std::string&)>& role) {
  if (!document.is_object()) return vsa_symbol<double>(d, "value:" + document.dump());
  Eigen::VectorXd sum = vsa_symbol<double>(d, "{}") * 0.1;
  for (const auto& [key, value] : document.items()) sum += role("key:" + key) * encode(value, d, role);
  return sum;
}

// A document is bound to a thousand roles, one after another, and taken out again, then asked for its values.
TEST(JsonVsa, DocumentsSurviveAThousandBindingsOrthogonalOnesAloneSlow) {
  const Index d = 512;
  const int count = 1000, roles = 7;
  const json document = json::parse(R"({"name": "Ada", "city": "London", "at": {"street": "Dorset", "no": "7b"}})");
  const std::vector<std::string> names = {"Ada", "London", "Dorset", "7b", "Bob", "Paris"};
  const auto name_of = [](int k) { return "step" + std::to_string(k % roles); };
  // The values that a document's vector holds at name, city, at.street and at.no.
  const auto answers = [&](const Eigen::VectorXd& bundle, const auto& unbind) {
    std::string found;
    for (const std::vector<std::string>& path :
         std::vector<std::vector<std::string>>{{"name"}, {"city"}, {"at", "street"}, {"at", "no"}}) {
      Eigen::VectorXd v = bundle;
      for (const auto& key : path) v = unbind("key:" + key, v);
      const auto like = [&](const std::string& name) {
        const double c = cosine(v, vsa_symbol<double>(d, "value:\"" + name + "\""));
        return std::isfinite(c) ? c : -1.0;
      };
      found += *std::max_element(names.begin(), names.end(), [&](const auto& a, const auto& b) {
        return like(a) < like(b);
      }) + " ";
    }
    return found;
  };
  const std::string expected = "Ada London Dorset 7b ";

  const auto unbind = [&](const std::string& key, const Eigen::VectorXd& v) {
    return Eigen::VectorXd(vsa_unbind(VsaRole<double>(d, key), v));
  };
  const Eigen::VectorXd start = json_to_vsa<double>(document, d);
  ASSERT_EQ(answers(start, unbind), expected);
  Eigen::VectorXd v = start;
  for (int k = 0; k < count; ++k) v = vsa_bind(VsaRole<double>(d, name_of(k)), v);
  EXPECT_NEAR(v.norm(), start.norm(), 1e-12 * start.norm());
  EXPECT_LT(std::abs(cosine(v, start)), 0.3);
  for (int k = count; k-- > 0;) v = vsa_unbind(VsaRole<double>(d, name_of(k)), v);
  EXPECT_LE((v - start).norm(), 1e-12 * start.norm());
  EXPECT_EQ(answers(v, unbind), expected);

  // Gaussian roles that keep norms on average answer while documents are shallow. After the same bindings neither
  // transposes nor inverses bring the document back.
  std::map<std::string, Eigen::MatrixXd> made;
  const auto gaussian = [&](const std::string& name) -> const Eigen::MatrixXd& {
    auto& G = made[name];
    if (G.size() == 0)
      G = detail::normal_dense<double>(d, d, 100 + made.size(), 0).to_dense() / std::sqrt(static_cast<double>(d));
    return G;
  };
  const auto transposed = [&](const std::string& key, const Eigen::VectorXd& x) {
    return Eigen::VectorXd(gaussian(key).transpose() * x);
  };
  const Eigen::VectorXd loose = encode(document, d, gaussian);
  ASSERT_EQ(answers(loose, transposed), expected);
  std::vector<Eigen::MatrixXd> G;
  std::vector<Eigen::HouseholderQR<Eigen::MatrixXd>> qr;
  for (int k = 0; k < roles; ++k) {
    G.push_back(gaussian(name_of(k)));
    qr.emplace_back(G.back());
  }
  const auto at = [&](int k) { return static_cast<std::size_t>(k % roles); };
  Eigen::VectorXd bound = loose, back;
  for (int k = 0; k < count; ++k) bound = G[at(k)] * bound;
  back = bound;
  for (int k = count; k-- > 0;) back = G[at(k)].transpose() * back;
  EXPECT_LT(std::abs(cosine(back, loose)), 0.3);
  EXPECT_GT(std::abs(std::log(back.norm() / loose.norm())), std::log(10));
  EXPECT_NE(answers(back, transposed), expected);
  back = bound;
  for (int k = count; k-- > 0;) back = qr[at(k)].solve(back);
  EXPECT_FALSE((back - loose).norm() <= loose.norm());  // it need not be finite
  EXPECT_NE(answers(back, transposed), expected);
}

// The same depth inside one document: every level is a binding, and 900 unbindings reach what lies at its end.
TEST(JsonVsa, WhatLiesNineHundredLevelsDeepComesBackFromOrthogonalRolesSlow) {
  const Index d = 512;
  const int levels = 900;
  json nested = "leaf";
  const auto key = [](int k) { return std::string(1, static_cast<char>('a' + k % 5)); };
  for (int k = levels; k-- > 0;) nested = json{{key(k), nested}};
  const Eigen::VectorXd leaf = vsa_symbol<double>(d, "value:\"leaf\""), other = vsa_symbol<double>(d, "value:\"lead\"");
  Eigen::VectorXd v = json_to_vsa<double>(nested, d);
  for (int k = 0; k < levels; ++k) v = vsa_unbind(VsaRole<double>(d, "key:" + key(k)), v);
  EXPECT_GT(cosine(v, leaf), 0.2);  // among 900 marks of objects of a tenth: 1 / sqrt(1 + 9)
  EXPECT_LT(std::abs(cosine(v, other)), 0.15);

  std::map<std::string, Eigen::MatrixXd> made;
  const auto gaussian = [&](const std::string& name) -> const Eigen::MatrixXd& {
    auto& G = made[name];
    if (G.size() == 0)
      G = detail::normal_dense<double>(d, d, 200 + made.size(), 0).to_dense() / std::sqrt(static_cast<double>(d));
    return G;
  };
  Eigen::VectorXd loose = encode(nested, d, gaussian);
  for (int k = 0; k < levels; ++k) loose = Eigen::VectorXd(made["key:" + key(k)].transpose() * loose);
  EXPECT_LT(std::abs(cosine(loose, leaf)), 0.15);
}

TEST(JsonVsa, RefusesLengthsAndDepths) {
  for (const Index d : {-1, 0, 3}) {
    EXPECT_THROW(json_to_vsa<float>(json(5), d), shape_error) << d;
    EXPECT_THROW(json_to_vsa<float>(json::array(), d), shape_error) << d;
  }
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  EXPECT_THROW(json_to_vsa<float>(json::parse(deep), 2), unsupported_error);
  EXPECT_THROW(vsa_symbol<float>(-1, "v"), shape_error);
  for (const json& wrong : {json("\xff"), json{{"a\xc3", 1}}, json::array({1, "\xed\xa0\x80"})})
    EXPECT_THROW(json_to_vsa<float>(wrong, 8), format_error);
  EXPECT_THROW(json_to_vsa<float>(json(std::nan("")), 8), unsupported_error);
}

BitVector random_bits(Index n, std::uint64_t seed) {
  BitVector v(n);
  const Philox draws(seed, 0xb17);
  for (Index i = 0; i < n; ++i) v.set(i, (draws.bits(static_cast<std::uint64_t>(i)) & 1) != 0);
  return v;
}

TEST(Gf2Hash, EqualsTheToeplitzMatrixBitByBit) {
  for (const Index n : {1, 7, 63, 64, 65, 200})
    for (const Index m : {1, 5, 64, 65, 129, 700}) {
      const auto seed = random_bits(n + m - 1, 1), x = random_bits(m, 2), y = random_bits(m, 3);
      BitVector expected(n), both(m);
      for (Index i = 0; i < n; ++i) {
        bool bit = false;
        for (Index j = 0; j < m; ++j) bit ^= seed.get(i - j + m - 1) && x.get(j);
        expected.set(i, bit);
      }
      const auto hx = gf2_toeplitz_hash(seed, x, n), hy = gf2_toeplitz_hash(seed, y, n);
      ASSERT_EQ(hx, expected) << n << " of " << m;
      for (std::size_t k = 0; k < both.words.size(); ++k) both.words[k] = x.words[k] ^ y.words[k];
      const auto hxy = gf2_toeplitz_hash(seed, both, n);
      for (std::size_t k = 0; k < hx.words.size(); ++k) ASSERT_EQ(hxy.words[k], hx.words[k] ^ hy.words[k]);
      const Index first = (m - 1) / 64, count = (n + 63) / 64 + 1;
      std::vector<std::uint64_t> portable(static_cast<std::size_t>(count)), fast = portable;
      detail::carryless_portable(seed.words.data(), static_cast<Index>(seed.words.size()), x.words.data(),
                                 static_cast<Index>(x.words.size()), first, count, portable.data());
#if TESSERA_X86
      if (detail::has_clmul()) {
        detail::carryless_clmul(seed.words.data(), static_cast<Index>(seed.words.size()), x.words.data(),
                                static_cast<Index>(x.words.size()), first, count, fast.data());
        ASSERT_EQ(portable, fast);
      }
#endif
    }
  EXPECT_THROW(gf2_toeplitz_hash(BitVector(9), BitVector(5), 4), shape_error);
}

/// x^n + p(x) has no divisor of degree 1 to n/2.
bool irreducible(std::uint32_t polynomial, int n) {
  for (std::uint32_t q = 2; q < (1u << (n / 2 + 1)); ++q) {
    std::uint32_t rest = polynomial;
    const int dq = 31 - std::countl_zero(q);
    for (int k = n; k >= dq; --k)
      if ((rest >> k & 1) != 0) rest ^= q << (k - dq);
    if (rest == 0) return false;
  }
  return true;
}

TEST(Gf2Hash, RefusesWordsThatDoNotHoldTheBits) {
  BitVector seed(1000), message(873);
  EXPECT_EQ(gf2_toeplitz_hash(seed, message, 128).words, (std::vector<std::uint64_t>(2)));
  EXPECT_THROW(gf2_toeplitz_hash(seed, message, std::numeric_limits<Index>::max()), shape_error);
  EXPECT_THROW(BitVector(-1), shape_error);
  message.words.resize(3);
  EXPECT_THROW(gf2_toeplitz_hash(seed, message, 128), shape_error);
  seed.words.clear();
  EXPECT_THROW(gf2_toeplitz_hash(seed, BitVector(873), 128), shape_error);
  BitVector empty;
  empty.bits = 64;
  EXPECT_THROW(lfsr_toeplitz_seed(empty, BitVector(64), 10), shape_error);
  EXPECT_THROW(lfsr_toeplitz_seed(BitVector(64), empty, 10), shape_error);
}

TEST(Gf2Hash, CollidesNoMoreThanItsBound) {
  constexpr int n = 8;
  const Index m = 24;
  std::vector<BitVector> feedbacks;
  for (std::uint32_t p = 1; p < 256; p += 2)
    if (irreducible(256 | p, n)) {
      feedbacks.emplace_back(n);
      feedbacks.back().words[0] = p;
    }
  EXPECT_EQ(feedbacks.size(), 30u);  // the irreducible polynomials of degree 8
  double worst = 0;
  for (std::uint64_t pair = 0; pair < 40; ++pair) {
    auto difference = random_bits(m, 100 + pair);
    difference.set(0, true);
    int collisions = 0, keys = 0;
    for (const auto& p : feedbacks)
      for (std::uint64_t state = 1; state < 256; state += 5) {
        BitVector s(n);
        s.words[0] = state;
        const auto digest = gf2_toeplitz_hash(lfsr_toeplitz_seed(p, s, m), difference, n);
        collisions += digest.words[0] == 0;
        ++keys;
      }
    worst = std::max(worst, static_cast<double>(collisions) / keys);
  }
  EXPECT_LE(worst, static_cast<double>(m) * std::pow(2.0, 1 - n));
}

}  // namespace
}  // namespace tessera
