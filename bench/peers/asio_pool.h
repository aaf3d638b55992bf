// asio_pool: Boost.Asio's thread_pool: post alone, and through strands, which are its keyed order.
#pragma once

#include <cstddef>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "places.h"

namespace bench::peers {

class asio_pool {
 public:
  asio_pool(std::size_t count, unsigned threads) : places_(count), pool_(threads) {}
  ~asio_pool() { pool_.join(); }
  asio_pool(const asio_pool&) = delete;
  asio_pool& operator=(const asio_pool&) = delete;

  void post(std::size_t place) {
    boost::asio::post(pool_, [done = &places_.at(place)] { done->set(); });
  }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { places_.wait(place); }

 private:
  places places_;
  boost::asio::thread_pool pool_;
};

// Place i goes to strand i modulo their number.
class asio_strands {
 public:
  asio_strands(std::size_t count, unsigned threads, std::size_t keys) : places_(count), pool_(threads) {
    for (std::size_t i = 0; i < keys; ++i) {
      strands_.emplace_back(pool_.get_executor());
    }
  }
  ~asio_strands() { pool_.join(); }
  asio_strands(const asio_strands&) = delete;
  asio_strands& operator=(const asio_strands&) = delete;

  void post(std::size_t place) {
    boost::asio::post(strands_[place % strands_.size()], [done = &places_.at(place)] { done->set(); });
  }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { places_.wait(place); }

 private:
  places places_;
  boost::asio::thread_pool pool_;
  std::vector<boost::asio::strand<boost::asio::thread_pool::executor_type>> strands_;
};

}  // namespace bench::peers
