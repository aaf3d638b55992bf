// As somebody else: what changing the user costs per work, beside what servers do without a wardrobe.
//
// A work opens and closes a file that its user may read. Peers do the same work under the same users: the C library's
// calls around each work (they change every thread of the process, so only one may be served at a time), and a process
// forked for each work.
#include "sluice/identity/identity.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "sluice/identity/wardrobe.h"

#include "experiments.h"

namespace bench {
namespace {

constexpr unsigned users = 16;
constexpr unsigned rounds = 31;
constexpr unsigned idle_threads = 4;  // a pool that the C library's calls reach too
constexpr uid_t first_user = 20'000;
constexpr gid_t group = 30'000;
constexpr std::uint64_t works = 10'000;
constexpr std::uint64_t forked_works = 200;

[[noreturn]] void give_up(const char* what) {
  throw std::runtime_error(std::string("identity: ") + what);
}

void require(bool fine, const char* what) {
  if (!fine) {
    give_up(what);
  }
}

class scene {
 public:
  scene() : path_(std::filesystem::temp_directory_path() / ("sluice-bench-" + std::to_string(::getpid()))) {
    require(::geteuid() == 0, "needs root: it works as sixteen users");
    std::ofstream(path_) << "bytes";
    require(::chmod(path_.c_str(), 0644) == 0, "cannot make its file");
    for (unsigned i = 0; i < users; ++i) {
      auto made = sluice::identity_builder()
                      .set_credentials({.uid = first_user + i, .gid = group, .groups = {group + 1 + i}})
                      .build();
      require(made.has_value(), "cannot build its users");
      people_.push_back(std::move(*made));
    }
  }
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;
  ~scene() { ::unlink(path_.c_str()); }

  void work() const {
    const int fd = ::open(path_.c_str(), O_RDONLY);
    keep(fd);
    ::close(fd);
  }
  // Whose turn it is, if runs of `length` works are for one user.
  [[nodiscard]] static unsigned turn(std::uint64_t number, std::uint64_t length) {
    return static_cast<unsigned>((number / length) % users);
  }
  [[nodiscard]] const sluice::identity* person(unsigned number) const { return people_[number].get(); }

 private:
  std::filesystem::path path_;
  std::vector<sluice::ref<const sluice::identity>> people_;
};

sample with_wardrobe(const scene& place, std::uint64_t length) {
  return timed(1, works, [&](unsigned) {
    sluice::wardrobe clothes;
    for (std::uint64_t i = 0; i < works; ++i) {
      require(clothes.put_on(place.person(scene::turn(i, length))).has_value(), "cannot switch");
      place.work();
    }
    require(clothes.take_off().has_value(), "cannot switch back");
  });
}

sample with_nothing(const scene& place) {
  return timed(1, works, [&](unsigned) {
    for (std::uint64_t i = 0; i < works; ++i) {
      place.work();
    }
  });
}

// As a server does it by hand: on before each work, off after it.
sample with_libc(const scene& place, std::uint64_t length) {
  std::latch over{1};
  std::vector<std::jthread> pool;
  for (unsigned i = 0; i < idle_threads; ++i) {
    pool.emplace_back([&over] { over.wait(); });
  }
  constexpr std::uint64_t count = works / 10;
  const sample found = timed(1, count, [&](unsigned) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const unsigned who = scene::turn(i, length);
      const gid_t own = group + 1 + who;
      require(::setgroups(1, &own) == 0 && ::setegid(group) == 0 && ::seteuid(first_user + who) == 0, "cannot switch");
      place.work();
      require(::seteuid(0) == 0 && ::setegid(0) == 0 && ::setgroups(0, nullptr) == 0, "cannot switch back");
    }
  });
  over.count_down();
  return found;
}

sample with_fork(const scene& place, std::uint64_t length) {
  return timed(1, forked_works, [&](unsigned) {
    for (std::uint64_t i = 0; i < forked_works; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        const unsigned who = scene::turn(i, length);
        const gid_t own = group + 1 + who;
        const bool fine = ::setgroups(1, &own) == 0 && ::setgid(group) == 0 && ::setuid(first_user + who) == 0;
        place.work();
        ::_exit(fine ? 0 : 1);
      }
      int status = 0;
      require(child > 0 && ::waitpid(child, &status, 0) == child && status == 0, "cannot fork");
    }
  });
}

const comparison& compare(report& out, const scene& place, const char* name, std::uint64_t length) {
  return out.compare(
      {.name = name, .unit = "ns", .rounds = rounds},
      {{"sluice wardrobe", side::ours, [&place, length] { return with_wardrobe(place, length); }, {}},
       {"no identity", side::peer, [&place] { return with_nothing(place); }, {}},
       {"libc setgroups, setegid, seteuid", side::peer, [&place, length] { return with_libc(place, length); }, {}},
       {"fork per work", side::peer, [&place, length] { return with_fork(place, length); }, {}}});
}

}  // namespace

report run_identity() {
  report out("identity");
  const scene place;
  compare(out, place, "every work another of 16 users", 1);
  compare(out, place, "runs of 10 works for one user", 10);
  const comparison& shared = compare(out, place, "all works for one user", works);
  out.target("one user against no identity", shared.ratio("sluice wardrobe", "no identity"), at_most(1.1));
  return out;
}

}  // namespace bench
