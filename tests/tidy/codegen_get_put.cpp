// get and put as functions of their own, for the check of the machine code (tests/tidy/codegen_get_put.py). Never
// linked.
#include "sluice/ref/kref.h"

namespace {
struct counted : sluice::kref<counted> {};
}  // namespace

extern "C" void sluice_codegen_get(const void* object);
extern "C" bool sluice_codegen_put(const void* object);

void sluice_codegen_get(const void* object) {
  static_cast<const counted*>(object)->get();
}
bool sluice_codegen_put(const void* object) {
  return static_cast<const counted*>(object)->put();
}
