#include "race/harness/last_words.h"

#include <unistd.h>

#include <array>
#include <string_view>
#include <utility>

#include "race/harness/sanitizers.h"

#if defined(RACE_ASAN) || defined(RACE_TSAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace race::detail {
namespace {

constinit const engine* speaking = nullptr;

void say(const char* text, std::size_t bytes) noexcept {
  if (::write(STDERR_FILENO, text, bytes) < 0) {
    return;
  }
}

void speak() noexcept {
  const engine* of = std::exchange(speaking, nullptr);
  if (of == nullptr || engine::active() == nullptr) {
    return;
  }
  constexpr std::string_view head = "race: the process ends within a schedule; replay it with SLUICE_RACE_SEED=";
  say(head.data(), head.size());
  std::array<char, 512> name{};
  say(name.data(), of->choices().name(name.data(), name.size()));
  say("\n", 1);
  of->history().dump(STDERR_FILENO);
}

void on_abort(int) noexcept {
  // Returning lets abort() end the process: it puts the default action back by itself.
  speak();
}

}  // namespace

last_words::last_words(const engine& of) noexcept {
  speaking = &of;
  struct sigaction action{};
  action.sa_handler = &on_abort;
  ::sigaction(SIGABRT, &action, &before_);
#if defined(RACE_ASAN) || defined(RACE_TSAN)
  __sanitizer_set_death_callback(&speak);
#endif
}

last_words::~last_words() {
  speaking = nullptr;
  ::sigaction(SIGABRT, &before_, nullptr);
}

}  // namespace race::detail
