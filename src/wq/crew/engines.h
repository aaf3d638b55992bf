// engines: one engine per NUMA node of a pool, and each has two accounts, bound and unbound.
//
// Thread safety:  constant after construction; each account synchronises itself.
// Errors:         the constructor throws std::bad_alloc, also when no engine number is free; it leaves nothing behind.
#pragma once

#include <array>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "wq/crew/account.h"
#include "wq/crew/engine_numbers.h"
#include "wq/os/topology.h"

namespace sluice::detail {

template <class Sync>
class basic_engine {
 public:
  using account = basic_account<Sync>;

  // share: see basic_crowd.
  basic_engine(basic_pool<Sync>& owner, unsigned node, std::size_t share)
      : accounts_{account(owner, work_class::bound, node, share), account(owner, work_class::unbound, node, share)} {
    const std::uint16_t number = engine_numbers<Sync>::take({accounts_.data(), accounts_.data() + 1});
    if (number == 0) {
      throw std::bad_alloc();
    }
    for (account& one : accounts_) {
      one.home = number;
    }
  }
  basic_engine(const basic_engine&) = delete;
  basic_engine& operator=(const basic_engine&) = delete;
  ~basic_engine() { engine_numbers<Sync>::give_back(accounts_[0].home); }

  [[nodiscard]] account& of(work_class cls) noexcept { return accounts_[std::to_underlying(cls)]; }

 private:
  std::array<account, work_classes> accounts_;
};

template <class Sync>
class basic_engines {
 public:
  using account = basic_account<Sync>;

  basic_engines(basic_pool<Sync>& owner, const topology& nodes, std::size_t share) : nodes_(nodes) {
    for (unsigned node = 0; node < nodes.nodes(); ++node) {
      all_.push_back(std::make_unique<basic_engine<Sync>>(owner, node, share));
    }
  }

  [[nodiscard]] unsigned nodes() const noexcept { return static_cast<unsigned>(all_.size()); }
  [[nodiscard]] account& at(unsigned node, work_class cls) noexcept { return all_[node]->of(cls); }
  // The calling thread's node.
  [[nodiscard]] account& local(work_class cls) noexcept { return at(nodes_.here(), cls); }

  // All accounts of a class.
  template <class Visit>
  void for_each_of(work_class cls, Visit visit) noexcept {
    for (auto& engine : all_) {
      visit(engine->of(cls));
    }
  }
  template <class Test>
  [[nodiscard]] bool all_of(work_class cls, Test test) noexcept {
    for (auto& engine : all_) {
      if (!test(engine->of(cls))) {
        return false;
      }
    }
    return true;
  }
  template <class Visit>
  void for_each(Visit visit) noexcept {
    for (auto& engine : all_) {
      visit(engine->of(work_class::bound));
      visit(engine->of(work_class::unbound));
    }
  }

 private:
  const topology& nodes_;
  std::vector<std::unique_ptr<basic_engine<Sync>>> all_;
};

}  // namespace sluice::detail
