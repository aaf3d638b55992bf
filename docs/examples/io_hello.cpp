// Reads a file through the library: tried without blocking first, on a worker if that would block.
#include <array>
#include <cstdio>

#include "sluice/io/file.h"

int main(int argc, char** argv) {
  const auto wq = sluice::io_wq::create();
  sluice::task self;
  if (!wq) {
    return 1;
  }
  auto file = sluice::file::open(**wq, self, argc > 1 ? argv[1] : "/etc/hostname", sluice::access_mode::read_only);
  if (!file) {
    std::fprintf(stderr, "cannot open it: %s\n", file.error().message().c_str());
    return 1;
  }
  std::array<std::byte, 4096> buffer{};
  const auto bytes = file->read_at(0, buffer);
  return bytes && std::fwrite(buffer.data(), 1, *bytes, stdout) == *bytes ? 0 : 1;
}
