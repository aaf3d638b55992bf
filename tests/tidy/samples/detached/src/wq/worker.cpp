#include <thread>

namespace sluice {

void start() {
  std::thread([] {}).detach();
}

}  // namespace sluice
