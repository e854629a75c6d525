// How a list of kernels is asked, forced and explained, on kernels that only leave their name.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <tessera/kernels/kernel.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

struct ToyArgs : KernelArgs {
  Index n = 0;
  Index* out = nullptr;  // (n)
};

struct ToyAmx {
  static constexpr std::string_view name = "toy:amx";
  static constexpr Isa isa = static_cast<Isa>(1u << 31);  // no processor has it
  static const char* reject(const ToyArgs&) { return nullptr; }
  static void run(const ToyArgs&, RowRange) noexcept {}
};
struct ToyEven {
  static constexpr std::string_view name = "toy:even";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const ToyArgs& a) { return a.n % 2 == 0 ? nullptr : "n is odd"; }
  static std::size_t scratch(const ToyArgs&) { return 100; }
  static void run(const ToyArgs& a, RowRange rows) noexcept {
    std::byte* scratch = a.scratch_of(rows.worker);
    for (std::size_t i = 0; i < 100; ++i) scratch[i] = static_cast<std::byte>(rows.worker);
    for (Index i = rows.begin; i < rows.end; ++i) a.out[i] += 100 + i;
    for (std::size_t i = 0; i < 100; ++i)
      if (scratch[i] != static_cast<std::byte>(rows.worker)) a.out[rows.begin] = -1;
  }
};
struct ToyRef {
  static constexpr std::string_view name = "toy:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const ToyArgs&) { return nullptr; }
  static void run(const ToyArgs& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) a.out[i] += i;
  }
};
using ToyKernels = KernelList<ToyAmx, ToyEven, ToyRef>;
using FewKernels = KernelList<ToyAmx, ToyEven>;

static_assert(Kernel<ToyRef, ToyArgs> && ToyKernels::size == 3);

ToyArgs args(Index n, Index* out = nullptr) {
  ToyArgs a;
  a.n = n;
  a.out = out;
  return a;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const unsupported_error& e) {
    return e.what();
  }
  return "nothing thrown";
}

TEST(KernelList, TakesTheFirstThatDoes) {
  Context ctx;
  EXPECT_EQ(ToyKernels::select(ctx, args(2)).name, "toy:even");
  EXPECT_EQ(ToyKernels::select(ctx, args(3)).name, "toy:ref");
}

TEST(KernelList, ForcedKernelsRunOrSayWhyNot) {
  Context ctx;
  ctx.force("toy:ref");
  EXPECT_EQ(ToyKernels::select(ctx, args(2)).name, "toy:ref");
  ctx.force("toy:even");
  EXPECT_EQ(message_of([&] { ToyKernels::select(ctx, args(3)); }), "tessera: forced kernel toy:even: n is odd");
  ctx.force("toy:amx");
  EXPECT_NE(message_of([&] { ToyKernels::select(ctx, args(2)); }).find("toy:amx: needs "), std::string::npos);
  ctx.force("toy:nonsense");
  const std::string message = message_of([&] { ToyKernels::select(ctx, args(2)); });
  EXPECT_NE(message.find("toy:nonsense is not one of"), std::string::npos) << message;
  EXPECT_NE(message.find("toy:even"), std::string::npos) << message;
  ctx.unforce("toy");
  ctx.force("other:ref");
  EXPECT_EQ(ToyKernels::select(ctx, args(2)).name, "toy:even");
}

TEST(KernelList, SaysWhyNoneIsLeft) {
  Context ctx;
  const std::string message = message_of([&] { FewKernels::select(ctx, args(3)); });
  EXPECT_NE(message.find("no kernel of toy"), std::string::npos) << message;
  EXPECT_NE(message.find("toy:even (n is odd)"), std::string::npos) << message;
}

TEST(KernelList, ExplainsEveryEntry) {
  Context ctx;
  const auto explained = [&](Index n) {
    std::vector<std::string> lines;
    ToyKernels::explain(ctx, args(n), [&](std::string_view name, const std::string& why) {
      lines.push_back(std::string(name) + "|" + why);
    });
    return lines;
  };
  auto lines = explained(2);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].rfind("toy:amx|needs ", 0), 0u);
  EXPECT_EQ(lines[1], "toy:even|");
  EXPECT_EQ(lines[2], "toy:ref|not needed");
  lines = explained(3);
  EXPECT_EQ(lines[1], "toy:even|n is odd");
  EXPECT_EQ(lines[2], "toy:ref|");
  ctx.force("toy:ref");
  EXPECT_EQ(explained(2)[1], "toy:even|another is forced");
}

TEST(KernelList, LaunchCoversAllRowsWithScratchForEachWorker) {
  for (const Index threads : {1, 2, 3}) {
    Context ctx = Context::with_threads(threads);
    for (const Index rows : {0, 1, 2, 31, 32, 1000}) {
      std::vector<Index> out(static_cast<std::size_t>(rows));
      launch(ctx, ToyKernels::select(ctx, args(2)), args(2, out.data()), rows, 16);
      for (Index i = 0; i < rows; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], 100 + i);
    }
  }
}

}  // namespace
}  // namespace tessera
