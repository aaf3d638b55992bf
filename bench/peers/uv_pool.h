// uv_pool: libuv's thread pool. Its loop is the submitter's thread: it hands over, and it hears of each completion.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <uv.h>

namespace bench::peers {

// libuv has one pool per process, as large as the environment says when it is first used. Requires: it was not used yet,
// or with the same size.
inline void set_uv_threads(unsigned threads) {
  ::setenv("UV_THREADPOOL_SIZE", std::to_string(threads).c_str(), 1);
}

// A loop with its lifetime. Requires: all that was begun on it is over when it is destroyed.
class uv_loop {
 public:
  uv_loop() {
    if (::uv_loop_init(&loop_) != 0) {
      throw std::runtime_error("uv_loop_init failed");
    }
  }
  ~uv_loop() {
    ::uv_run(&loop_, UV_RUN_DEFAULT);
    ::uv_loop_close(&loop_);
  }
  uv_loop(const uv_loop&) = delete;
  uv_loop& operator=(const uv_loop&) = delete;

  [[nodiscard]] uv_loop_t* get() noexcept { return &loop_; }

 private:
  uv_loop_t loop_{};
};

// A request to libuv's pool that calls a function.
template <class Function>
struct uv_call {
  explicit uv_call(Function function) : run(std::move(function)) { request.data = this; }
  void post(uv_loop& loop) {
    const auto work = [](uv_work_t* it) { static_cast<uv_call*>(it->data)->run(); };
    if (::uv_queue_work(loop.get(), &request, work, [](uv_work_t*, int) {}) != 0) {
      throw std::runtime_error("uv_queue_work failed");
    }
  }

  Function run;
  uv_work_t request{};
};

class uv_pool {
 public:
  uv_pool(std::size_t count, unsigned threads) : places_((set_uv_threads(threads), count)) {}

  void post(std::size_t place) {
    one& it = places_[place];
    it.request.data = &it;
    if (::uv_queue_work(loop_.get(), &it.request, [](uv_work_t*) {}, &after) != 0) {
      throw std::runtime_error("uv_queue_work failed");
    }
  }
  void flush() noexcept {}
  void wait(std::size_t place) {
    while (!places_[place].done) {
      ::uv_run(loop_.get(), UV_RUN_ONCE);
    }
    places_[place].done = false;
  }

 private:
  struct one {
    uv_work_t request{};
    bool done = false;
  };

  static void after(uv_work_t* request, int /*status*/) { static_cast<one*>(request->data)->done = true; }

  std::vector<one> places_;
  uv_loop loop_;
};

}  // namespace bench::peers
