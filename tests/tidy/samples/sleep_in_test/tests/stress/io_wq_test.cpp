TEST(IoWq, WorkRuns) {
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
}
