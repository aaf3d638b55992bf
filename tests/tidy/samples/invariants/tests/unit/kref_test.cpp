// R2: faults saturate.
// More words.
TEST(Kref, Saturates) {}

TEST(Kref, R1ReleasesOnce) {}

TEST(Kref, R3_GetUnlessZero) {
  // W1 stands in a comment that is the test's first line.
  int x = 0;
}

TEST(Kref, ClaimsNothing) {
  int x = 0;
  // R4: too late.
}
