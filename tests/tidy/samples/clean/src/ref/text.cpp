#include "sluice/base/counter.h"

namespace sluice {

// A raw string holds whatever it wants; so does a comment: x.load(), volatile, atomic_thread_fence, /* detach() */.
const char* text() {
  return R"(flag.load(); volatile int x; std::thread([]{}).detach(); {{{ )";
}

const char* more() {
  return "flag.load() \" { volatile";
}

void pause() {
  asm volatile("" ::: "memory");
}

// A table is no function, however long.
constexpr int table[] = {
    0,   //
    1,   //
    2,   //
    3,   //
    4,   //
    5,   //
    6,   //
    7,   //
    8,   //
    9,   //
    10,  //
    11,  //
    12,  //
    13,  //
    14,  //
    15,  //
    16,  //
    17,  //
    18,  //
    19,  //
    20,  //
    21,  //
    22,  //
    23,  //
    24,  //
    25,  //
    26,  //
    27,  //
    28,  //
    29,  //
    30,  //
    31,  //
    32,  //
    33,  //
    34,  //
    35,  //
    36,  //
    37,  //
    38,  //
    39,  //
    40,  //
    41,  //
    42,  //
    43,  //
    44,  //
    45,  //
    46,  //
    47,  //
    48,  //
    49,  //
    50,  //
    51,  //
    52,  //
    53,  //
    54,  //
    55,  //
    56,  //
    57,  //
    58,  //
    59,  //
    60,  //
    61,  //
    62,  //
    63,  //
    64,  //
    65,  //
    66,  //
    67,  //
    68,  //
    69,  //
    70,  //
    71,  //
    72,  //
    73,  //
    74,  //
    75,  //
    76,  //
    77,  //
    78,  //
    79,  //
};

template <class Value, class Order = std::memory_order>
class box final {
 public:
  explicit box(Value value) : value_{value}, copy_(value) {}

 private:
  Value value_;
  Value copy_;
  int member_0_ = 0;
  int member_1_ = 1;
  int member_2_ = 2;
  int member_3_ = 3;
  int member_4_ = 4;
  int member_5_ = 5;
  int member_6_ = 6;
  int member_7_ = 7;
  int member_8_ = 8;
  int member_9_ = 9;
  int member_10_ = 10;
  int member_11_ = 11;
  int member_12_ = 12;
  int member_13_ = 13;
  int member_14_ = 14;
  int member_15_ = 15;
  int member_16_ = 16;
  int member_17_ = 17;
  int member_18_ = 18;
  int member_19_ = 19;
  int member_20_ = 20;
  int member_21_ = 21;
  int member_22_ = 22;
  int member_23_ = 23;
  int member_24_ = 24;
  int member_25_ = 25;
  int member_26_ = 26;
  int member_27_ = 27;
  int member_28_ = 28;
  int member_29_ = 29;
  int member_30_ = 30;
  int member_31_ = 31;
  int member_32_ = 32;
  int member_33_ = 33;
  int member_34_ = 34;
  int member_35_ = 35;
  int member_36_ = 36;
  int member_37_ = 37;
  int member_38_ = 38;
  int member_39_ = 39;
  int member_40_ = 40;
  int member_41_ = 41;
  int member_42_ = 42;
  int member_43_ = 43;
  int member_44_ = 44;
  int member_45_ = 45;
  int member_46_ = 46;
  int member_47_ = 47;
  int member_48_ = 48;
  int member_49_ = 49;
  int member_50_ = 50;
  int member_51_ = 51;
  int member_52_ = 52;
  int member_53_ = 53;
  int member_54_ = 54;
  int member_55_ = 55;
  int member_56_ = 56;
  int member_57_ = 57;
  int member_58_ = 58;
  int member_59_ = 59;
  int member_60_ = 60;
  int member_61_ = 61;
  int member_62_ = 62;
  int member_63_ = 63;
  int member_64_ = 64;
  int member_65_ = 65;
  int member_66_ = 66;
  int member_67_ = 67;
  int member_68_ = 68;
  int member_69_ = 69;
  int member_70_ = 70;
  int member_71_ = 71;
  int member_72_ = 72;
  int member_73_ = 73;
  int member_74_ = 74;
  int member_75_ = 75;
  int member_76_ = 76;
  int member_77_ = 77;
  int member_78_ = 78;
  int member_79_ = 79;
};

}  // namespace sluice
