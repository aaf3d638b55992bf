#include "sluice/identity/identity.h"

namespace sluice {

ref<const identity> identity::neutral() {
  // The static keeps one count for ever, so the value outlives every work of every thread.
  static const identity& instance = *new identity;
  return ref<const identity>::retain(&instance);
}

}  // namespace sluice
