// catalog: the exports of a server by name.
//
// Ownership:      kref per export; the catalog holds one count, every connection that uses an export another.
// Thread safety:  filled before the server starts, read-only from then on.
// Errors:         add() refuses a name that is taken, too long or no UTF-8: set-up errors with a sentence for the
// operator.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/device/device.h"
#include "sluice/device/open_file.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

#include "nbd/setup_error.h"

namespace sluice::nbd {

// One export: a name in front of a device and the request queue that all its clients share.
class exported : public kref<exported> {
 public:
  exported(std::string name, std::string description, ref<device> target, ref<request_queue> queue, access_mode mode);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const std::string& description() const noexcept { return description_; }
  [[nodiscard]] access_mode mode() const noexcept { return mode_; }
  [[nodiscard]] request_queue& queue() const noexcept { return *queue_; }
  // Bytes.
  [[nodiscard]] std::uint64_t size() const noexcept { return target_->size(); }
  // The transmission flags of the protocol, from what the device can do.
  [[nodiscard]] std::uint16_t flags() const noexcept;

  // An opening of the device for one connection. Blocks as the device's open does (microseconds for a file).
  [[nodiscard]] result<ref<open_file>> open() const;

 private:
  friend struct sluice::delete_release;
  ~exported() = default;

  const std::string name_;
  const std::string description_;
  const ref<device> target_;
  const ref<request_queue> queue_;
  const access_mode mode_;
};

class catalog {
 public:
  // Throws setup_error if the name cannot be used.
  void add(ref<exported> entry);

  // The export of that name; the empty name means the first one unless an export has it. Null if there is none.
  [[nodiscard]] ref<exported> find(std::string_view name) const;

  [[nodiscard]] const std::vector<ref<exported>>& entries() const noexcept { return entries_; }

 private:
  std::vector<ref<exported>> entries_;
};

}  // namespace sluice::nbd
