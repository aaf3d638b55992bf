#include "race/harness/trace.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace race::detail {
namespace {

const char* order_name(std::memory_order order) noexcept {
  switch (order) {
    case std::memory_order_relaxed:
      return "relaxed";
    case std::memory_order_consume:
      return "consume";
    case std::memory_order_acquire:
      return "acquire";
    case std::memory_order_release:
      return "release";
    case std::memory_order_acq_rel:
      return "acq_rel";
    case std::memory_order_seq_cst:
      return "seq_cst";
  }
  return "?";
}

struct style {
  const char* name;
  char object;   // letter of the object's kind: a(tomic), m(utex), p(lain); 0: none
  int values;    // how many values are worth printing
  bool ordered;  // whether it has a memory order
};

style style_of(op what) noexcept {
  switch (what) {
    case op::load:
      return {"load", 'a', 1, true};
    case op::stale_load:
      return {"load (an older value)", 'a', 1, true};
    case op::own_load:
      return {"load (own buffered store)", 'a', 1, true};
    case op::store:
      return {"store", 'a', 1, true};
    case op::buffer:
      return {"store (into its buffer)", 'a', 1, true};
    case op::commit:
      return {"store leaves the buffer", 'a', 1, false};
    case op::rmw:
      return {"read-modify-write", 'a', 2, true};
    case op::cas_done:
      return {"compare-exchange", 'a', 2, true};
    case op::cas_failed:
      return {"compare-exchange fails", 'a', 1, true};
    case op::lock:
      return {"lock", 'm', 0, false};
    case op::try_lock_failed:
      return {"try_lock fails", 'm', 0, false};
    case op::unlock:
      return {"unlock", 'm', 0, false};
    case op::sleep:
      return {"wait: sleeps", 'a', 1, false};
    case op::no_sleep:
      return {"wait: value differs", 'a', 1, false};
    case op::woken:
      return {"is woken", 'a', 0, false};
    case op::timeout:
      return {"wait: deadline passes", 'a', 0, false};
    case op::spurious:
      return {"wakes for no reason", 'a', 0, false};
    case op::wake:
      return {"wake", 'a', 0, false};
    case op::relax:
      return {"relax", 0, 0, false};
    case op::read:
      return {"read", 'p', 0, false};
    case op::write:
      return {"write", 'p', 0, false};
    case op::destroy:
      return {"destroy", 'a', 0, false};
    case op::finish:
      return {"ends", 0, 0, false};
    case op::failure:
      return {"*** FAILED HERE ***", 0, 0, false};
  }
  return {"?", 0, 0, false};
}

int put_value(char* out, std::size_t bytes, std::uint64_t value) noexcept {
  // Small numbers as people write them, pointers and flag words as machines do; negative counts are small numbers too.
  const auto number = static_cast<std::int64_t>(value);
  if (number > -1'000'000 && number < 1'000'000) {
    return std::snprintf(out, bytes, " %lld", static_cast<long long>(number));
  }
  return std::snprintf(out, bytes, " 0x%llx", static_cast<unsigned long long>(value));
}

}  // namespace

std::string joined(std::initializer_list<std::string_view> pieces) {
  std::string out;
  for (const std::string_view piece : pieces) {
    out.append(piece);
  }
  return out;
}

std::string object_name(char kind, std::uint32_t id) {
  std::string out(1, kind);
  out.append(std::to_string(id));
  return out;
}

const char* base_name(const char* path) noexcept {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

int trace::format(const record& entry, std::uint64_t number, char* out, std::size_t bytes) noexcept {
  const style how = style_of(entry.what);
  int used =
      std::snprintf(out, bytes, "%5llu  fiber %u  ", static_cast<unsigned long long>(number), unsigned{entry.fiber});
  const auto rest = [&] { return bytes - static_cast<std::size_t>(used); };
  if (how.object != 0) {
    used += std::snprintf(out + used, rest(), "%c%-4u ", how.object, entry.object);
  } else {
    used += std::snprintf(out + used, rest(), "      ");
  }
  used += std::snprintf(out + used, rest(), "%s", how.name);
  if (how.values > 0) {
    used += put_value(out + used, rest(), entry.before);
  }
  if (how.values > 1) {
    used += std::snprintf(out + used, rest(), " ->");
    used += put_value(out + used, rest(), entry.after);
  }
  if (how.ordered) {
    used += std::snprintf(out + used, rest(), " %s", order_name(entry.order));
  }
  if (entry.at.line() != 0) {
    used += std::snprintf(out + used, rest(), "  (%.64s:%u)", base_name(entry.at.file_name()),
                          static_cast<unsigned>(entry.at.line()));
  }
  used += std::snprintf(out + used, rest(), "\n");
  return used;
}

std::string trace::text() const {
  std::string out;
  if (first() > 0) {
    out += "  ... " + std::to_string(first()) + " earlier operations\n";
  }
  for (std::uint64_t i = first(); i < count_; ++i) {
    std::array<char, 256> line{};
    const int used = format(entries_[i % entries_.size()], i, line.data(), line.size());
    out.append(line.data(), static_cast<std::size_t>(used));
  }
  return out;
}

void trace::dump(int fd) const noexcept {
  for (std::uint64_t i = first(); i < count_; ++i) {
    std::array<char, 256> line{};
    const int used = format(entries_[i % entries_.size()], i, line.data(), line.size());
    if (::write(fd, line.data(), static_cast<std::size_t>(used)) < 0) {
      return;
    }
  }
}

}  // namespace race::detail
