#include "nbd/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "nbd/handshake.h"
#include "nbd/wire.h"

namespace sluice::nbd {

exported::exported(std::string name, std::string description, ref<device> target, ref<request_queue> queue,
                   access_mode mode)
    : name_(std::move(name)),
      description_(std::move(description)),
      target_(std::move(target)),
      queue_(std::move(queue)),
      mode_(mode) {}

std::uint16_t exported::flags() const noexcept {
  const device_traits& can = target_->traits();
  const bool writable = mode_ == access_mode::read_write;
  // Every connection of an export goes through one queue to one file, and a flush covers the file: that is multi-conn.
  unsigned flags = flag_has_flags | flag_can_multi_conn;
  flags |= writable ? 0U : flag_read_only;
  flags |= can.flush ? flag_send_flush : 0U;
  flags |= can.fua ? flag_send_fua : 0U;
  flags |= can.rotational ? flag_rotational : 0U;
  flags |= writable && can.trim ? flag_send_trim : 0U;
  flags |= writable && can.write_zeroes ? flag_send_write_zeroes : 0U;
  flags |= writable && can.write_zeroes && can.fast_zero ? flag_send_fast_zero : 0U;
  flags |= can.cache ? flag_send_cache : 0U;
  return static_cast<std::uint16_t>(flags);
}

result<ref<open_file>> exported::open() const {
  return open_file::open(target_, queue_, mode_);
}

void catalog::add(ref<exported> entry) {
  const std::string& name = entry->name();
  if (name.size() > max_string_bytes || !valid_string(name)) {
    throw setup_error(fmt::format("the export name '{}' cannot be used: a name is UTF-8 without NUL, at most {} bytes",
                                  name.substr(0, 64), max_string_bytes));
  }
  if (std::ranges::any_of(entries_, [&](const ref<exported>& other) { return other->name() == name; })) {
    throw setup_error(
        fmt::format("the export name '{}' is used twice; give one file another name with NAME=FILE", name));
  }
  entries_.push_back(std::move(entry));
}

ref<exported> catalog::find(std::string_view name) const {
  const auto at = std::ranges::find_if(entries_, [&](const ref<exported>& entry) { return entry->name() == name; });
  if (at != entries_.end()) {
    return *at;
  }
  return name.empty() && !entries_.empty() ? entries_.front() : ref<exported>{};
}

}  // namespace sluice::nbd
