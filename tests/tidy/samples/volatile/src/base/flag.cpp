namespace sluice {

volatile bool stop = false;

}  // namespace sluice
