// engine_numbers: from the number that a waiting work carries to its account.
//
// A number belongs to one engine (the two accounts of a node) for as long as that lives, and a waiting work keeps its engine
// alive. A work has 16 bits for it, so at most 65 535 engines live at once in a process.
//
// Thread safety:  any thread.
// Errors:         number 0: all numbers are taken.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "sluice/base/mutex.h"

#include "wq/crew/account.h"

namespace sluice::detail {

template <class Sync>
class engine_numbers {
 public:
  using accounts = std::array<basic_account<Sync>*, work_classes>;

  // Returns 0 if all numbers are taken.
  [[nodiscard]] static std::uint16_t take(accounts both) noexcept {
    const mutex_lock held(lock_);
    for (unsigned tries = 0; tries < most; ++tries) {
      next_ = next_ % most + 1;
      if (all_[next_][0] == nullptr) {
        all_[next_] = both;
        return static_cast<std::uint16_t>(next_);
      }
    }
    return 0;
  }
  static void give_back(std::uint16_t number) noexcept {
    const mutex_lock held(lock_);
    all_[number] = {};
  }
  // Requires: an engine with this number lives; the caller got the number after take() returned it.
  [[nodiscard]] static basic_account<Sync>& account_of(const work& w) noexcept {
    return *all_[work_access::home(const_cast<work&>(w))][std::to_underlying(w.cls())];
  }

 private:
  static constexpr unsigned most = 0xFFFF;

  static inline constinit mutex lock_;
  static inline constinit unsigned next_ = 0;
  static inline constinit std::array<accounts, most + 1> all_{};
};

}  // namespace sluice::detail
