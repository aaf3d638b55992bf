// descriptors: the files and pipes that rounds work on, closed with their scope.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace bench {

class descriptor {
 public:
  descriptor() = default;
  descriptor(int number, const char* what) : number_(number) {
    if (number < 0) {
      throw std::system_error(errno, std::system_category(), what);
    }
  }
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }

  [[nodiscard]] int get() const noexcept { return number_; }

 private:
  int number_ = -1;
};

// A file of that many bytes, all of them in the page cache and nowhere else.
[[nodiscard]] inline descriptor cached_file(std::size_t bytes) {
  descriptor file(::memfd_create("sluice-bench", MFD_CLOEXEC), "memfd_create");
  const int err = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
  if (err != 0) {
    throw std::system_error(err, std::system_category(), "posix_fallocate");
  }
  return file;
}

// What blocks a reader until somebody lets it go on, byte by byte.
class barrier_pipe {
 public:
  barrier_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::system_category(), "pipe2");
    }
    reader_ = descriptor(ends[0], "pipe2");
    writer_ = descriptor(ends[1], "pipe2");
  }

  [[nodiscard]] int reader() const noexcept { return reader_.get(); }
  // Sleeps for a byte. An interrupted read is over as well: the caller is let go too early, and its figure shows it.
  void block() const noexcept {
    char byte = 0;
    static_cast<void>(::read(reader_.get(), &byte, 1));
  }
  // Requires: fewer bytes than a pipe holds are on their way.
  void let_go(std::size_t count) const {
    constexpr std::size_t most = 64;
    const std::array<char, most> bytes{};
    while (count != 0) {
      const ssize_t written = ::write(writer_.get(), bytes.data(), std::min(count, most));
      if (written <= 0) {
        throw std::system_error(errno, std::system_category(), "write to a pipe");
      }
      count -= static_cast<std::size_t>(written);
    }
  }

 private:
  descriptor reader_;
  descriptor writer_;
};

// A FIFO with a name: who opens it for reading waits until somebody lets go all who do.
class barrier_fifo {
 public:
  barrier_fifo() {
    std::string folder = (std::filesystem::temp_directory_path() / "sluice-bench.XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) {
      throw std::system_error(errno, std::system_category(), "mkdtemp");
    }
    folder_ = folder;
    path_ = folder + "/fifo";
    if (::mkfifo(path_.c_str(), S_IRUSR | S_IWUSR) != 0) {
      const int err = errno;
      ::rmdir(folder_.c_str());
      throw std::system_error(err, std::system_category(), "mkfifo");
    }
  }
  ~barrier_fifo() {
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }
  barrier_fifo(const barrier_fifo&) = delete;
  barrier_fifo& operator=(const barrier_fifo&) = delete;

  [[nodiscard]] const char* path() const noexcept { return path_.c_str(); }
  // A writer comes and leaves. Nobody there: ENXIO, and nothing is to be done.
  void let_go() const noexcept {
    const int writer = ::open(path_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (writer >= 0) {
      ::close(writer);
    }
  }

 private:
  std::string folder_;
  std::string path_;
};

}  // namespace bench
