TEST(Kref, DISABLED_ReleasesOnce) {}
