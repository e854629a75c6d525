// Files mapped for reading and replaced whole by writing.
#include <sys/stat.h>

#include <tessera/io/atomic_file.hpp>
#include <tessera/io/mapped_file.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(MappedFile, SeesTheBytes) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "a", std::string_view("ab\0c", 4));
  const MappedFile file(scratch / "a");
  EXPECT_EQ(file.bytes().size(), 4u);
  EXPECT_EQ(file.bytes()[3], std::byte{'c'});
  EXPECT_EQ(file.name(), scratch / "a");
}

TEST(MappedFile, AnEmptyFileIsNoBytes) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "empty", "");
  EXPECT_TRUE(MappedFile(scratch / "empty").bytes().empty());
}

TEST(MappedFile, RefusalsNameTheFile) {
  const test::ScratchDirectory scratch;
  EXPECT_REFUSED(MappedFile(scratch / "absent"), io_error, "absent: No such file");
  EXPECT_REFUSED(MappedFile(scratch / ""), io_error, "not a regular file");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  EXPECT_REFUSED(MappedFile(scratch / "pipe"), io_error, "not a regular file");
}

TEST(ByteSource, KeepsTheMappingAlive) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "a", "hello");
  ByteSource copy = ByteSource::memory(std::string_view("x"));
  EXPECT_EQ(copy.owner(), nullptr);
  {
    const ByteSource source = ByteSource::file(scratch / "a");
    copy = source;
  }
  EXPECT_EQ(copy.text(), "hello");
}

TEST(AtomicFile, AppearsOnlyOnCommit) {
  const test::ScratchDirectory scratch;
  {
    AtomicFile file(scratch / "a");
    file.write(bytes("new"));
    EXPECT_FALSE(std::filesystem::exists(scratch / "a"));
    file.commit();
  }
  EXPECT_EQ(test::slurp(scratch / "a"), "new");
  EXPECT_EQ(scratch.files(), 1u);
}

TEST(AtomicFile, LeavesTheOldFileWhenNotCommitted) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "a", "old");
  {
    AtomicFile file(scratch / "a");
    file.write(bytes("half of the"));
  }
  EXPECT_EQ(test::slurp(scratch / "a"), "old");
  EXPECT_EQ(scratch.files(), 1u);
}

TEST(AtomicFile, AMappedReaderKeepsWhatItOpened) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "a", "old");
  const MappedFile before(scratch / "a");
  AtomicFile file(scratch / "a");
  file.write(bytes("newer and longer"));
  file.commit();
  EXPECT_EQ(before.bytes()[0], std::byte{'o'});
  EXPECT_EQ(test::slurp(scratch / "a"), "newer and longer");
}

TEST(AtomicFile, WritesThroughASymbolicLink) {
  const test::ScratchDirectory scratch;
  test::spill(scratch / "real", "old");
  std::filesystem::create_symlink(scratch / "real", scratch / "link");
  AtomicFile file(scratch / "link");
  file.write(bytes("new"));
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(scratch / "link"));
  EXPECT_EQ(test::slurp(scratch / "real"), "new");
}

TEST(AtomicFile, RefusalsNameTheFile) {
  const test::ScratchDirectory scratch;
  EXPECT_REFUSED(AtomicFile(scratch / "no/such/directory"), io_error, "no/such/directory");
  EXPECT_REFUSED(AtomicFile("/dev/null"), io_error, "/dev/null: it is not a regular file");
}

TEST(AtomicFile, AFullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  EXPECT_REFUSED(AtomicFile("/dev/full"), io_error, "/dev/full");
}

}  // namespace
}  // namespace tessera
