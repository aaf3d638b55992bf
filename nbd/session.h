// session: one client, however many connections it has: the task whose io_context its connections share.
//
// Connections of one client (the same user on a Unix socket, the same address on TCP) are tasks of their own that share
// the session's context as children forked with CLONE_IO do: one priority, one fair share of every export.
//
// Ownership:      kref: each connection of the client holds a count; the last one ends the task.
// Thread safety:  any thread that holds a count.
// Blocking:       the last put exits the io_context, which takes the locks of the queues it used.
#pragma once

#include <string>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ioc/task.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice::nbd {

class session : public kref<session> {
 public:
  explicit session(std::string name) : name_(std::move(name)) {}

  // Who it is, as transport::peer() tells.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  // Lets a connection's task share the client's context, and returns it: on its behalf the connection issues. Errors:
  // ENOMEM.
  [[nodiscard]] result<ref<io_context>> join(task& connection);

 private:
  friend struct sluice::delete_release;
  ~session() = default;

  const std::string name_;
  task task_;
};

}  // namespace sluice::nbd
