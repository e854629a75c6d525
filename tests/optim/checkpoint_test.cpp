// Checkpoints while training goes on: the same training, whole files after a kill, errors at the next call.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/checkpoint.hpp>
#include <thread>
#include <vector>

#include "optim/model.hpp"
#include "support/scratch_directory.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

const std::string file_name = "model.safetensors";

TEST(AsyncCheckpoint, TrainingIsTheSameAndResumesFromIt) {
  const test::ScratchDirectory dir;
  const auto opt = adamw(0.01, {}, 0.1);
  Model<float> plain(120, 50), saved(120, 50), resumed(120, 50);
  Context ctx;
  auto plain_state = opt.init(plain.params), state = opt.init(saved.params);
  {
    AsyncCheckpoint checkpoint(dir / file_name);
    for (Index step = 0; step < 12; ++step) {
      plain.draw(step);
      opt.update(ctx, plain.grads, plain_state, plain.params);
      saved.draw(step);
      checkpoint.before_update();
      opt.update(ctx, saved.grads, state, saved.params);
      checkpoint.save(saved.params, state, {{"step", std::to_string(step)}});
      if (step == 7) {
        checkpoint.wait();
        EXPECT_EQ(read_safetensors(dir / file_name).metadata().at("step"), "7");
        auto its = opt.init(resumed.params);
        load_checkpoint(dir / file_name, resumed.params, its);
        EXPECT_TRUE(same_bits(resumed.w, saved.w) && same_bits(resumed.b, saved.b));
        for (Index more = 8; more < 12; ++more) {
          resumed.draw(more);
          opt.update(ctx, resumed.grads, its, resumed.params);
        }
      }
    }
  }
  EXPECT_TRUE(same_bits(plain.w, saved.w) && same_bits(plain.b, saved.b));
  EXPECT_TRUE(same_bits(plain.w, resumed.w) && same_bits(plain.b, resumed.b));
  EXPECT_EQ(read_safetensors(dir / file_name).metadata().at("step"), "11");
  auto its = opt.init(resumed.params);
  load_checkpoint(dir / file_name, resumed.params, its);
  EXPECT_EQ(its.count, 12);
  EXPECT_EQ(dir.files(), 1u);  // no temporary file is left

  save_checkpoint(dir / "at_once", resumed.params, its);
  const auto at_once = read_safetensors(dir / "at_once"), beside = read_safetensors(dir / file_name);
  ASSERT_EQ(at_once.tensors().size(), beside.tensors().size());
  for (const Tensor& t : at_once.tensors())
    EXPECT_TRUE(std::equal(t.data.begin(), t.data.end(), beside[t.name].data.begin(), beside[t.name].data.end()))
        << t.name;

  Model<float> other(50, 120);
  auto wrong = opt.init(other.params);
  EXPECT_THROW(load_checkpoint(dir / file_name, other.params, wrong), shape_error);
  auto less = sgd(0.1).init(saved.params);
  EXPECT_THROW(load_checkpoint(dir / file_name, saved.params, less), format_error);
}

TEST(AsyncCheckpoint, ErrorsOfTheWriterComeWithTheNextCall) {
  const test::ScratchDirectory dir;
  Model<float> model(3, 4);
  auto state = sgd(0.1, 0.9).init(model.params);
  AsyncCheckpoint nowhere(dir / "none/model.safetensors");
  nowhere.save(model.params, state);
  EXPECT_THROW(nowhere.wait(), io_error);
  nowhere.wait();  // said once
  const auto fails = [&](auto&& call) {
    try {
      call();
    } catch (const io_error&) {
      return true;
    }
    return false;
  };
  while (!fails([&] { nowhere.save(model.params, state); })) {  // a later save says that an earlier one failed
  }
  while (fails([&] { nowhere.wait(); })) {
  }
  std::filesystem::create_directory(dir / "none");
  nowhere.save(model.params, state);
  nowhere.wait();
  load_checkpoint(dir / "none/model.safetensors", model.params, state);
  Model<float> twin(3, 4);
  twin.params[1].name = twin.params[0].name;
  AsyncCheckpoint twice(dir / file_name);
  auto its = sgd(0.1).init(twin.params);
  twice.save(twin.params, its);
  EXPECT_THROW(twice.wait(), format_error);
  EXPECT_FALSE(std::filesystem::exists(dir / file_name));
}

TEST(AsyncCheckpoint, NoByteIsTornWhileStepsGoOn) {
  const test::ScratchDirectory dir;
  std::vector<float> w(30011), m(20000);
  const Parameters<float> params{{"w", std::span<float>(w)}, {"m", std::span<float>(m)}};
  auto state = sgd(0.1).init(params);
  AsyncCheckpoint checkpoint(dir / file_name);
  Index last = -1;
  for (Index step = 0; step < 40; ++step) {
    checkpoint.before_update();  // from here on every number changes, whatever is still being written
    for (auto* all : {&w, &m}) std::fill(all->begin(), all->end(), static_cast<float>(step));
    checkpoint.save(params, state, {{"step", std::to_string(step)}});
    if (!std::filesystem::exists(dir / file_name)) continue;
    const Safetensors file = read_safetensors(dir / file_name);
    const Index of = std::stoll(file.metadata().at("step"));
    EXPECT_TRUE(of >= last && of <= step) << of;
    last = of;
    for (const char* name : {"params.w", "params.m"})
      for (const float v : file[name].read<float>()) ASSERT_EQ(v, static_cast<float>(of)) << name;
  }
  checkpoint.wait();
  EXPECT_EQ(read_safetensors(dir / file_name).metadata().at("step"), "39");
}

/// Every number of a checkpoint says which one it is, from `first` on; a byte into `told` for each that is begun.
void write_some(const std::string& path, float first, Index count, int told) {
  std::vector<float> w(40000), m(20000);
  const Parameters<float> params{{"w", std::span<float>(w)}, {"m", std::span<float>(m)}};
  auto state = sgd(0.1).init(params);
  AsyncCheckpoint checkpoint(path);
  for (float k = first; count-- > 0; ++k) {
    checkpoint.before_update();
    std::fill(w.begin(), w.end(), k);
    std::fill(m.begin(), m.end(), k);
    checkpoint.save(params, state);
    if (told >= 0 && ::write(told, "", 1) != 1) return;
  }
  checkpoint.wait();
}

TEST(AsyncCheckpoint, AKillLeavesAWholeFile) {
  const test::ScratchDirectory dir;
  write_some(dir / file_name, 1, 1, -1);
  float last = 1;
  const Philox draws(5);
  for (std::uint64_t trial = 0; trial < 12; ++trial) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      write_some(dir / file_name, last + 1, 1 << 20, ends[1]);
      ::_exit(1);
    }
    ::close(ends[1]);
    char begun = 0;
    for (std::uint64_t saves = draws.below(3 * trial, 4) + 1; saves > 0 && ::read(ends[0], &begun, 1) == 1;) --saves;
    ::usleep(static_cast<useconds_t>(draws.below(3 * trial + 1, 3000)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(ends[0]);
    const Safetensors file = read_safetensors(dir / file_name);  // checks all sizes
    const float k = file["params.w"].view<float, 1>()[0];
    EXPECT_GE(k, last);
    for (const char* name : {"params.w", "params.m"})
      for (float v : file[name].read<float>()) ASSERT_EQ(v, k);
    last = k;
  }
  std::printf("the last checkpoint of 12 killed runs: %g\n", static_cast<double>(last));
}

}  // namespace
}  // namespace tessera::optim
