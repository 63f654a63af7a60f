// Runs CUDA C++ kernels on a CPU, for tests. Each thread is a fibre; at barriers, shuffles, ballots and atomics another one goes on,
// in an order drawn from a seed (0: ascending, 1: descending, else random), several blocks at once. A barrier that not all threads of a
// block or warp reach is an error. What it cannot show: speed, the weak order of a GPU's memory between blocks.
#pragma once
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define SHARED(T, name) T* name = (T*)shim::me->block->shared.get()

namespace shim {
struct Fiber;
struct Group {  // a barrier's: of a block or of a warp
  std::vector<Fiber*> waiting;
  int alive = 0;
};
struct Warp : Group {
  long long slots[32];
};
struct Block : Group {
  unsigned id;
  std::unique_ptr<char[]> shared;
  std::vector<Warp> warps;
};
struct Fiber {
  ucontext_t start;
  jmp_buf at;
  bool started = false;
  Block* block;
  Warp* warp;
  unsigned tid;
  char* stack;
};
enum { RETURNS_WHILE_OTHERS_WAIT = 2, WAITS_FOR_EVER = 3 };
enum { WAITS = 1, DONE = 2, FAILED = 3 };
inline Fiber* me;
inline jmp_buf scheduler;
inline std::deque<Fiber*> ready;
inline std::mt19937 random;
inline unsigned seed, grid, block;
inline void (*kernel)(void**);
inline void** arguments;

inline void leave() {
  if (!_setjmp(me->at)) _longjmp(scheduler, WAITS);
}
inline void meet(Group& group) {
  if ((int)group.waiting.size() + 1 == group.alive) {
    ready.insert(ready.end(), group.waiting.begin(), group.waiting.end());
    group.waiting.clear();
  } else {
    group.waiting.push_back(me);
    leave();
  }
}
inline void maybe_yield() {
  if (seed > 1 && random() % 2) {
    ready.push_back(me);
    leave();
  }
}
inline void body() {
  kernel(arguments);
  if (!me->block->waiting.empty() || !me->warp->waiting.empty()) _longjmp(scheduler, FAILED);
  me->block->alive--, me->warp->alive--;
  _longjmp(scheduler, DONE);
}
template <class T>
T exchange(T value, int from) {
  memcpy(&me->warp->slots[me->tid & 31], &value, sizeof(T));
  meet(*me->warp);
  memcpy(&value, &me->warp->slots[from & 31], sizeof(T));
  meet(*me->warp);
  return value;
}
struct Tid { operator unsigned() const { return me->tid; } };
struct Bid { operator unsigned() const { return me->block->id; } };
struct Bdim { operator unsigned() const { return block; } };
struct Gdim { operator unsigned() const { return grid; } };
}  // namespace shim

struct { shim::Tid x; } static threadIdx;
struct { shim::Bid x; } static blockIdx;
struct { shim::Bdim x; } static blockDim;
struct { shim::Gdim x; } static gridDim;
static void __syncthreads() { shim::meet(*shim::me->block); }
template <class T> T __shfl_sync(unsigned, T value, int from) { return shim::exchange(value, from); }
template <class T> T __shfl_down_sync(unsigned, T value, int by) {
  int lane = threadIdx.x & 31;
  return shim::exchange(value, lane + by < 32 ? lane + by : lane);
}
static unsigned __ballot_sync(unsigned, bool wanted) {
  unsigned mask = 0;
  shim::me->warp->slots[threadIdx.x & 31] = wanted;
  shim::meet(*shim::me->warp);
  for (int lane = 0; lane < 32; lane++) mask |= (unsigned)shim::me->warp->slots[lane] << lane;
  shim::meet(*shim::me->warp);
  return mask;
}
static int __popc(unsigned mask) { return __builtin_popcount(mask); }
static double __dmul_rn(double a, double b) { return a * b; }
static double __dadd_rn(double a, double b) { return a + b; }
static double __dsub_rn(double a, double b) { return a - b; }
template <class T, class S> T atomicAdd(T* at, S value) {
  shim::maybe_yield();
  T old = *at;
  *at += value;
  return old;
}
template <class T, class S> T atomicMin(T* at, S value) {
  shim::maybe_yield();
  T old = *at;
  *at = std::min(old, (T)value);
  return old;
}
template <class T> T atomicCAS(T* at, T expected, T value) {
  shim::maybe_yield();
  T old = *at;
  if (old == expected) *at = value;
  return old;
}

// `resident` blocks at once. 0, or one of the errors above. Shared memory starts as rubbish.
extern "C" inline __attribute__((used, visibility("default"))) int shim_run(
    void (*kernel)(void**), void** arguments, unsigned grid, unsigned block, size_t shared_bytes, unsigned seed, unsigned resident) {
  using namespace shim;
  shim::kernel = kernel, shim::arguments = arguments, shim::grid = grid, shim::block = block, shim::seed = seed;
  shim::random.seed(seed);
  const size_t STACK = 1 << 16;
  std::vector<Fiber> fibers(resident * block);
  std::vector<Block> blocks(resident);
  static std::vector<char*> stacks;  // kept: a launch is many times cheaper so
  while (stacks.size() < fibers.size())
    stacks.push_back((char*)mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (size_t f = 0; f < fibers.size(); f++) fibers[f].stack = stacks[f];
  std::vector<unsigned> order(grid);
  for (unsigned b = 0; b < grid; b++) order[b] = seed == 1 ? grid - 1 - b : b;
  if (seed > 1) std::shuffle(order.begin(), order.end(), shim::random);
  for (unsigned from = 0; from < grid; from += resident) {
    ready.clear();
    unsigned here = std::min(resident, grid - from);
    for (unsigned b = 0; b < here; b++) {
      blocks[b] = Block();
      blocks[b].id = order[from + b], blocks[b].alive = block;
      blocks[b].shared.reset(new char[shared_bytes + 16]);
      memset(blocks[b].shared.get(), 0xAB, shared_bytes + 16);
      blocks[b].warps.resize(block / 32);
      for (auto& warp : blocks[b].warps) warp.alive = 32;
      for (unsigned t = 0; t < block; t++) {
        unsigned tid = seed == 1 ? block - 1 - t : t;
        Fiber& fiber = fibers[b * block + t];
        fiber.started = false, fiber.block = &blocks[b], fiber.warp = &blocks[b].warps[tid / 32], fiber.tid = tid;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack, fiber.start.uc_stack.ss_size = STACK, fiber.start.uc_link = 0;
        makecontext(&fiber.start, body, 0);
        ready.push_back(&fiber);
      }
    }
    volatile int left = here * block;
    while (left) {
      if (ready.empty()) return WAITS_FOR_EVER;
      if (seed > 1) std::swap(ready.front(), ready[shim::random() % ready.size()]);
      me = ready.front();
      ready.pop_front();
      int back = _setjmp(scheduler);
      if (back == FAILED) return RETURNS_WHILE_OTHERS_WAIT;
      if (back == DONE) left = left - 1;
      if (back) continue;
      if (me->started) _longjmp(me->at, 1);
      me->started = true;
      setcontext(&me->start);
    }
  }
  return 0;
}
