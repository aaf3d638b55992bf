// R1: released once.
TEST(Kref, ReleasesOnce) {}

TEST(Kref, R3_GetUnlessZero) {}
