#include "nbd/session.h"

namespace sluice::nbd {

result<ref<io_context>> session::join(task& connection) {
  // Before the child is linked: there must be something to share.
  if (const result<void> made = task_.create_task_io_context(task_side::current); !made) {
    return std::unexpected(made.error());
  }
  if (const result<void> shared = connection.copy_io(task_, clone_io::share); !shared) {
    return std::unexpected(shared.error());
  }
  return connection.get_task_io_context(task_side::current);
}

}  // namespace sluice::nbd
