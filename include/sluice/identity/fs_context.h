// fs_context: the two things of a thread that path names and new files depend on: working directory and umask.
//
// A directory is held by an O_PATH descriptor: it cannot go away, and renaming it changes nothing.
//
// Both live in one kernel object that the threads of a process share, so a worker leaves it (unshare(CLONE_FS)) before
// it touches either. From then on a chdir or umask elsewhere in the program no longer reaches that worker: its original
// is what the process had when it left.
//
// Ownership:      kref; hold a directory through ref<const directory>.
// Thread safety:  immutable.
// Blocking:       open looks a path up, which may wait for a network file system.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/base/unique_fd.h"
#include "sluice/identity/identity_calls.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

// Which directory: the same key is the same directory on the same mount, as long as somebody holds it.
struct directory_key {
  std::uint64_t mount = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;

  friend bool operator==(const directory_key&, const directory_key&) = default;
};

class directory : public kref<directory> {
 public:
  // Errors: what open(2) reports for the path; ENOTDIR; ENOMEM.
  [[nodiscard]] static result<ref<const directory>> open(const char* path,
                                                         identity_calls& calls = identity_calls::real()) noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const directory_key& key() const noexcept { return key_; }
  friend bool operator==(const directory& a, const directory& b) noexcept { return a.key_ == b.key_; }

 private:
  friend struct delete_release;

  directory(unique_fd fd, const directory_key& key) noexcept : fd_(std::move(fd)), key_(key) {}
  ~directory() = default;

  const unique_fd fd_;
  const directory_key key_;
};

// The directory that a descriptor, or AT_FDCWD, stands for.
[[nodiscard]] result<directory_key> key_of_directory(int fd, identity_calls& calls) noexcept;

// The umask of the calling thread, from /proc/thread-self/status: umask(2) could only tell by changing it, for all
// threads that share it. Errors: as for opening that file.
[[nodiscard]] result<mode_t> umask_of_this_thread(identity_calls& calls = identity_calls::real()) noexcept;

namespace detail {

// The whole of a small file, under /proc say. May throw std::bad_alloc.
[[nodiscard]] result<std::string> read_whole(const char* path, identity_calls& calls);

}  // namespace detail

}  // namespace sluice
