namespace sluice {

// TODO: later.
void later() {}

}  // namespace sluice
