// aio_pool: glibc's POSIX AIO: aio_read of one byte from a file in memory. It knows no work that does nothing.
#pragma once

#include <aio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "../descriptors.h"

namespace bench::peers {

class aio_pool {
 public:
  // glibc serves the requests of one descriptor one after the other, and walks all of them to add one; so there are 64
  // descriptors. Its pool belongs to the process: the first one made decides its size.
  aio_pool(std::size_t count, unsigned threads) : places_(count), bytes_(count) {
    aioinit how{};
    how.aio_threads = static_cast<int>(threads);
    how.aio_num = static_cast<int>(count);
    ::aio_init(&how);
    for (descriptor& file : files_) {
      file = cached_file(1);
    }
  }

  void post(std::size_t place) {
    aiocb& request = places_[place];
    request = {};
    request.aio_fildes = files_[place % files_.size()].get();
    request.aio_buf = &bytes_[place];
    request.aio_nbytes = 1;
    request.aio_sigevent.sigev_notify = SIGEV_NONE;
    if (::aio_read(&request) != 0) {
      throw std::system_error(errno, std::system_category(), "aio_read");
    }
  }
  void flush() noexcept {}
  void wait(std::size_t place) {
    aiocb& request = places_[place];
    const std::array<const aiocb*, 1> list{&request};
    while (::aio_error(&request) == EINPROGRESS) {
      static_cast<void>(::aio_suspend(list.data(), 1, nullptr));
    }
    if (::aio_return(&request) != 1) {
      throw std::runtime_error("aio_read read nothing");
    }
  }

 private:
  std::vector<aiocb> places_;
  std::vector<char> bytes_;
  std::array<descriptor, 64> files_;
};

}  // namespace bench::peers
