// Rule 1: take the count before the hand-over, so that it is there whoever runs first.
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace {

class message : public sluice::kref<message> {
 public:
  explicit message(int text) : text_(text) {}
  [[nodiscard]] int text() const { return text_; }

 private:
  int text_;
};

}  // namespace

int main() {
  sluice::ref<message> mine = sluice::make_ref<message>(42);

  // The copy in the closure is a get() that happens here, in the thread that owns a count. Were the get() in the new
  // thread, `mine` could be the last count and go before it.
  int seen = 0;
  std::thread reader([held = mine, &seen] { seen = held->text(); });

  mine.reset();  // we are done; the reader's count keeps the message
  reader.join();

  std::printf("the thread read %d\n", seen);
  return seen == 42 ? EXIT_SUCCESS : EXIT_FAILURE;
}
