// A program: checked steps, and the memory that its runs take turns with.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "isa.h"
#include "weights.h"

namespace fxq {

struct Source {  // what a program is made of, as the caller gave it
  const Instruction* code;
  const View* views;
  Weights* const* layers;
  const uint8_t* tables;
  int32_t instructions, view_count, layer_count, table_count, images;
  int64_t lane_bytes, wide_bytes;
  int32_t threads;  // that may pack weights
};

// Empty, or what is wrong. Nothing is read through a view's or a layer's pointers.
std::string check_layer(const Layer& layer);
std::string check_program(const Source& source);

// The bytes that a view may touch: [low, high) of its memory.
struct Extent {
  int64_t low, high;
};
Extent extent_of(const View& view, int32_t images);

// Whether bytes of one may be bytes of the other; whether each number lies where the other's does.
bool overlap(const View& a, const View& b, int32_t images);
bool same_place(const View& a, const View& b);

struct Phase {  // consecutive steps of one kind
  int32_t first, last;
  bool wide;
};

struct Stage {  // what all threads are done with before they go on
  int32_t first, last;   // steps
  int32_t image, whole;  // `whole` images from `image` on, one for each unit; 0: one step together
};

// Memory of one run: lane 0 is shared by all threads, lane t + 1 is of thread t.
struct Arena {
  std::vector<std::unique_ptr<Block>> lanes;
  std::unique_ptr<Block> wide;
  std::vector<Stage> stages;
  int32_t threads = 0;  // that `stages` are for
};

struct Program {
  Program(const Source& source, int32_t isa);
  ~Program();

  std::vector<Step> steps;
  std::vector<std::string> kernels;  // a name for each step
  std::vector<Phase> phases;
  std::vector<int64_t> needed;  // bytes of each external tensor
  std::vector<bool> floats;     // which of them hold floats
  Block tables;
  int64_t lane_bytes, wide_bytes;
  int32_t images;

  std::unique_ptr<Arena> take_arena();
  void give_arena(std::unique_ptr<Arena> arena);

 private:
  // Without a lock, which a fork could leave taken; more runs at once than these get new memory.
  std::atomic<Arena*> free_[8] = {};
};

enum RunError : int32_t { RUN_OK, WRONG_COUNT, TOO_SMALL, NULL_POINTER, MISALIGNED, NO_MEMORY };

struct Clocks {  // nanoseconds of each step; null where they are not wanted
  int64_t* busy = nullptr;  // over all threads
  int64_t* wall = nullptr;
};

int32_t run_program(Program& program, void* const* externals, const int64_t* bytes, int32_t count,
                    int32_t threads, Clocks clocks);

}  // namespace fxq
