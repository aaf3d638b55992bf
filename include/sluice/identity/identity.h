// identity: as whom a work is done: one immutable, reference-counted value that a work carries from submit to release.
//
// The set of fields is closed, and each is captured or neutral:
//
//   credentials        user, group, supplementary groups, effective capabilities (credentials.h)
//   working_directory  where relative names begin                               (fs_context.h)
//   umask              what new files do not grant
//   file_size_limit    RLIMIT_FSIZE; process-wide in the kernel, so it is asked for before a write: fsize_allows()
//   priority           the ioprio
//   cgroup             a control group that takes threads                       (cgroup.h)
//   file_table         the open files, carried for a higher floor and not looked into
//   audit              a name for logs and traces
//
// A work runs under exactly the fields that its identity captured. A field that was not is neutral: what the worker had
// when it began, never what the work before it wore. (docs/identity.md tells why the kernel's mm has no place here.)
//
//   auto who = identity_builder().set_credentials({.uid = 1000, .gid = 1000, .groups = {100}}).set_umask(022).build();
//   if (!who) { log(who.error().message()); }   // "credentials: changing the user needs CAP_SETUID"
//
// What this process may not do is said here, when an identity is built or captured, by the name of the missing
// capability; not in the middle of a work. Equal contexts are one value, so that "the same identity" is "the same
// pointer", and a worker that wears it already has nothing to do.
//
// Ownership:      kref; hold it through ref<const identity>. Build once, share among works.
// Thread safety:  immutable: any thread that holds a count may read it.
// Blocking:       building takes a lock for the length of a hash lookup and may look paths up. The last put takes the
//                 lock too, and closes descriptors.
// Errors:         identity_refusal.
// Invariants:     I1 I4; I2 is kept by the holder: a wardrobe that took off holds no count.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/base/immortal.h"
#include "sluice/base/ioprio.h"
#include "sluice/identity/cgroup.h"
#include "sluice/identity/credentials.h"
#include "sluice/identity/fs_context.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

enum class identity_field : std::uint16_t {
  none = 0,
  credentials = 1U << 0U,
  working_directory = 1U << 1U,
  umask = 1U << 2U,
  file_size_limit = 1U << 3U,
  priority = 1U << 4U,
  cgroup = 1U << 5U,
  file_table = 1U << 6U,
  audit = 1U << 7U,
};
[[nodiscard]] constexpr identity_field operator|(identity_field a, identity_field b) noexcept {
  return static_cast<identity_field>(std::to_underlying(a) | std::to_underlying(b));
}
[[nodiscard]] constexpr bool has(identity_field all, identity_field one) noexcept {
  return (std::to_underlying(all) & std::to_underlying(one)) != 0;
}
// "credentials" and so on. Requires: one field.
[[nodiscard]] const char* to_string(identity_field one) noexcept;

// Why an identity was not built: the field, the errno, and what would have to be otherwise.
struct identity_refusal {
  identity_field field = identity_field::none;
  std::error_code code;
  std::string why;  // "changing the user needs CAP_SETUID"

  // "credentials: changing the user needs CAP_SETUID".
  [[nodiscard]] std::string message() const;
};

class identity;
using identity_result = std::expected<ref<const identity>, identity_refusal>;

// Something of a higher floor that an identity keeps alive for its works. Compared by address.
class carried : public kref<carried> {
 public:
  virtual ~carried() = default;

 protected:
  carried() = default;
};

struct identity_release {
  void operator()(identity* last) const noexcept;
};

// The fields as plain data; empty is neutral.
struct identity_fields {
  std::optional<credentials> who;
  ref<const directory> working_directory;
  std::optional<mode_t> umask;
  std::optional<std::uint64_t> file_size_limit;  // bytes
  std::optional<ioprio> priority;
  ref<const cgroup> group;
  ref<const carried> file_table;
  std::string audit;

  // By value: the same directory and the same control group, however they were opened; the same carried object.
  friend bool operator==(const identity_fields& a, const identity_fields& b) noexcept;
};

class identity : public kref<identity, identity_release> {
 public:
  static constexpr std::size_t max_audit_bytes = 64;

  // The identity that carries nothing. One value for the whole process.
  [[nodiscard]] static ref<const identity> neutral();

  // As the calling thread is right now, in these fields. A thread that wears an identity gives what it wears; the file
  // table and the audit tag have no other source and are neutral where nothing is worn. The cgroup is that of the v1
  // blkio controller, or a threaded one of v2; where neither is there it stays neutral, for then threads cannot differ.
  [[nodiscard]] static identity_result capture(identity_field which,
                                               identity_calls& calls = identity_calls::real()) noexcept;

  // How many distinct identities are alive, neutral not counted: for logs and tests.
  [[nodiscard]] static std::size_t live() noexcept;

  [[nodiscard]] const identity_fields& fields() const noexcept { return fields_; }
  [[nodiscard]] bool is_neutral() const noexcept { return neutral_; }

  // For logs and traces; empty if there is none.
  [[nodiscard]] std::string_view audit() const noexcept { return fields_.audit; }

 private:
  friend class immortal<identity>;
  friend struct identity_release;
  friend class identity_table;

  explicit identity(identity_fields fields) : fields_(std::move(fields)), neutral_(fields_ == identity_fields{}) {}
  ~identity() = default;

  const identity_fields fields_;
  const bool neutral_;
};

// Collects fields, checks that this process may take them on, and finds or makes the one value of them.
// Thread safety: one thread. May be used again after build(); each build looks anew.
class identity_builder {
 public:
  explicit identity_builder(identity_calls& calls = identity_calls::real()) noexcept : calls_(calls) {}

  // Groups in any order; doubles do not count.
  identity_builder& set_credentials(credentials who);
  // Looked up by build(), with the rights of the thread that builds.
  identity_builder& set_working_directory(std::string path);
  identity_builder& set_working_directory(ref<const directory> where);
  // Only the permission bits count.
  identity_builder& set_umask(mode_t mask) noexcept;
  // Bytes; what is longer than the process's own limit changes nothing.
  identity_builder& set_file_size_limit(std::uint64_t bytes) noexcept;
  identity_builder& set_priority(ioprio priority) noexcept;
  // The directory of a control group.
  identity_builder& set_cgroup(std::string path);
  identity_builder& set_cgroup(ref<const cgroup> group);
  identity_builder& set_file_table(ref<const carried> table) noexcept;
  // At most identity::max_audit_bytes.
  identity_builder& set_audit(std::string tag);

  // Errors: EPERM with the missing capability's name; EINVAL (an id that this user namespace does not know, a priority
  // or a tag that is none); what opening the directory or the control group reports; ENOMEM.
  [[nodiscard]] identity_result build() const noexcept;

 private:
  identity_calls& calls_;
  identity_fields fields_;
  std::optional<std::string> directory_path_;
  std::optional<std::string> cgroup_path_;
};

// What the calling thread wears; null where that is nothing. Valid until its wardrobe changes: during a work's run.
[[nodiscard]] const identity* current_identity() noexcept;

// How much of a write to a regular file its file-size limit lets through, by the rule of write(2): what begins below the
// limit is cut there, what begins at or above it is refused. A write of nothing is always allowed. Null: no limit.
// (write(2) raises SIGXFSZ as well; a worker's file operations do not.) Errors: EFBIG.
[[nodiscard]] result<std::size_t> fsize_allows(const identity* who, std::uint64_t offset, std::size_t length) noexcept;

// Whether a file may be made this long by truncate(2) or fallocate(2), which never do a part. Errors: EFBIG.
[[nodiscard]] result<void> fsize_allows_growth(const identity* who, std::uint64_t size) noexcept;

}  // namespace sluice
