// The label engine's kernels. NVRTC compiles this file for GPUs (launch.py); g++ compiles the same file for the tests, behind
// tests/labels/gpu/shim.h. REAL is the type of the features.
//
// Every array has the bits of the compiled CPU engine: sums run in its order, no floating-point atomics, and no product is fused
// with a sum (__d*_rn, and --fmad=false for the rest). Blocks are whole warps. "fill": kernels that make lists are run twice, first
// to count (fill = 0), then, the lists' offsets known, to write.
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned char u8;
#ifndef SHARED
#define SHARED(T, name) extern __shared__ __align__(16) unsigned char name##_[]; T* name = (T*)name##_
#endif
#define ROUNDING_NOISE 1e-12  // distreid.retrieval.jaccard
#define IN_HALF 2             // distreid.retrieval.reciprocal
#define NOT_REACHED 2147483647
#define TINY 1e-12    // distreid.evaluation.rerank_kernels
#define NEVER 1e300   // a distance that is never before another

// Where each thread's entry goes in a list that grows by the threads with `wanted`, in their order. `length`, `warps`: shared, one
// int and one for each warp. All threads of the block call.
static __device__ int place(bool wanted, int* length, int* warps) {
  unsigned mask = __ballot_sync(~0u, wanted);
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) warps[warp] = __popc(mask);
  __syncthreads();
  int at = *length;
  for (int w = 0; w < warp; w++) at += warps[w];
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 0; w < (int)blockDim.x / 32; w++) *length += warps[w];
  __syncthreads();
  return at + __popc(mask & ((1u << lane) - 1));
}

// d² of two normalised rows by one warp, as distreid.retrieval.distances: 32 running sums, then halves onto halves.
static __device__ double squared_distance(const REAL* x_ND, const double* inverse_norms_N, int dim, int i, int j) {
  const REAL *a_D = x_ND + (i64)i * dim, *b_D = x_ND + (i64)j * dim;
  double sum = 0;
  for (int d = threadIdx.x & 31; d < dim; d += 32) {
    double difference = __dsub_rn(__dmul_rn((double)a_D[d], inverse_norms_N[i]), __dmul_rn((double)b_D[d], inverse_norms_N[j]));
    sum = __dadd_rn(sum, __dmul_rn(difference, difference));
  }
  for (int width = 16; width; width /= 2) sum = __dadd_rn(sum, __shfl_down_sync(~0u, sum, width));
  return __shfl_sync(~0u, sum, 0);
}

// exp(-x) as distreid.retrieval.decay.
static __device__ double decay(double x) {
  const double coefficients[14] = {
      1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800,
      1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
  int n = (int)__dadd_rn(__dmul_rn(x, 1.4426950408889634), 0.5);
  double r = __dadd_rn(__dsub_rn(__dmul_rn(n, 0.693147180369123816490), x), __dmul_rn(n, 1.90821492927058770002e-10));
  double total = coefficients[13];
  for (int at = 12; at >= 0; at--) total = __dadd_rn(__dmul_rn(total, r), coefficients[at]);
  return total / (double)(1LL << n);
}

extern "C" __global__ void distances(
    i64 pairs, int dim, const REAL* x_ND, const double* inverse_norms_N, const int* i_E, const int* j_E, double* squared_E) {
  i64 e = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (e >= pairs) return;  // whole warps
  double squared = squared_distance(x_ND, inverse_norms_N, dim, i_E[e], j_E[e]);
  if ((threadIdx.x & 31) == 0) squared_E[e] = squared;
}

// Whether point i is in turn in the list of its s-th neighbour: IN_HALF within the half lists, 1 within the whole ones only, 0 not.
extern "C" __global__ void reciprocity(int count, int k, int half, const int* near_Uk, const int* group_N, u8* flags_Nk) {
  i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (i64)count * k) return;
  int i = at / k, s = at % k, j = near_Uk[(i64)group_N[i] * k + s], flag = 0;
  if (j >= 0)
    for (int t = 0; t < k && !flag; t++)
      if (near_Uk[(i64)group_N[j] * k + t] == i) flag = s < half && t < half ? IN_HALF : 1;
  flags_Nk[at] = flag;
}

// A row of V is divided by its sum. All threads of the block call.
static __device__ void to_sum_of_one(double* values, int length) {
  __syncthreads();
  double sum = 0;
  for (int e = 0; e < length; e++) sum = __dadd_rn(sum, values[e]);
  __syncthreads();
  for (int e = threadIdx.x; e < length; e += blockDim.x) values[e] /= sum;
}

// V: a block takes rows i; R(i) first, then what R* adds, in the order of the lists. `values` null: the sets alone. scratch_BS: 2·k + k·half ints a block,
// mark_BN: a row of NOT_REACHED for each. Shared: 2 ints, and one for each warp.
extern "C" __global__ void reciprocal_weights(
    int count, int k, int half, int dim, const int* near_Uk, const double* squared_Uk, const int* group_N, const u8* flags_Nk,
    const REAL* x_ND, const double* inverse_norms_N, int* scratch_BS, int* mark_BN, int fill, const i64* offsets, int* lengths_N,
    int* columns, double* values) {
  SHARED(int, sizes);  // |R(i)|, |R*(i)|
  int slots = k * half, *warps = sizes + 2;
  int *members = scratch_BS + (i64)blockIdx.x * (2 * k + slots), *source = members + k;  // R(i) and its places in the list
  int* extra = source + k;                          // the half lists that R* adds, -1: nothing
  int* mark_N = mark_BN + (i64)blockIdx.x * count;  // of a point: -1 in R(i), else its first place in `extra`
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const int* mine = near_Uk + (i64)group_N[i] * k;
    if (threadIdx.x == 0) {
      sizes[0] = 0;
      for (int s = 0; s < k; s++)
        if (flags_Nk[(i64)i * k + s]) {
          source[sizes[0]] = s;
          members[sizes[0]++] = mine[s];
        }
    }
    __syncthreads();
    int reciprocal = sizes[0];
    for (int r = threadIdx.x; r < reciprocal; r += blockDim.x) mark_N[members[r]] = -1;
    __syncthreads();
    for (int c = threadIdx.x; c < k; c += blockDim.x) {
      int size = 0, common = 0, point = c < reciprocal ? members[c] : -1;
      const int* theirs = near_Uk + (i64)(point < 0 ? 0 : group_N[point]) * k;
      const u8* flags = flags_Nk + (i64)(point < 0 ? 0 : point) * k;
      for (int t = 0; t < half && point >= 0; t++)
        if (flags[t] == IN_HALF) {
          size++;
          common += mark_N[theirs[t]] == -1;
        }
      for (int t = 0; t < half; t++)
        extra[c * half + t] = point >= 0 && 3 * common > 2 * size && flags[t] == IN_HALF ? theirs[t] : -1;
    }
    __syncthreads();
    for (int q = threadIdx.x; q < slots; q += blockDim.x)
      if (extra[q] >= 0) atomicMin(mark_N + extra[q], q);
    if (threadIdx.x == 0) sizes[1] = reciprocal;
    __syncthreads();
    for (int from = 0; from < slots; from += blockDim.x) {
      int q = from + threadIdx.x, point = q < slots ? extra[q] : -1;
      bool is_new = point >= 0 && mark_N[point] == q;
      int at = place(is_new, sizes + 1, warps);
      if (fill && is_new) columns[offsets[i] + at] = point;
    }
    if (threadIdx.x == 0) lengths_N[i] = sizes[1];
    __syncthreads();
    for (int r = threadIdx.x; r < reciprocal; r += blockDim.x) mark_N[members[r]] = NOT_REACHED;
    for (int q = threadIdx.x; q < slots; q += blockDim.x)
      if (extra[q] >= 0) mark_N[extra[q]] = NOT_REACHED;
    if (fill) {
      int length = sizes[1];
      i64 begin = offsets[i];
      for (int r = threadIdx.x; r < reciprocal; r += blockDim.x) columns[begin + r] = members[r];
      if (values) {
        for (int r = threadIdx.x; r < reciprocal; r += blockDim.x)
          values[begin + r] = decay(squared_Uk[(i64)group_N[i] * k + source[r]]);
        for (int e = reciprocal + threadIdx.x / 32; e < length; e += blockDim.x / 32) {
          double squared = squared_distance(x_ND, inverse_norms_N, dim, i, columns[begin + e]);
          if ((threadIdx.x & 31) == 0) values[begin + e] = decay(squared);
        }
        to_sum_of_one(values + begin, length);
      }
    }
    __syncthreads();
  }
}

// V after the query expansion: a block takes rows u. sums_BN: zeros, touched_BN: anything; a row of each for a block.
// Shared: an int, and one for each warp.
extern "C" __global__ void expand_queries(
    int rows, int q, int count, const int* nearest_Uq, const i64* offsets, const int* columns, const double* values,
    double* sums_BN, int* touched_BN, int fill, const i64* out_offsets, int* lengths_U, int* out_rows, int* out_columns,
    double* out_values) {
  SHARED(int, length);
  int* warps = length + 1;
  double* sums_N = sums_BN + (i64)blockIdx.x * count;
  int* touched_N = touched_BN + (i64)blockIdx.x * count;
  for (int u = blockIdx.x; u < rows; u += gridDim.x) {
    if (threadIdx.x == 0) *length = 0;
    __syncthreads();
    int found = 0;
    for (int s = 0; s < q; s++) {
      int j = nearest_Uq[(i64)u * q + s];
      if (j < 0) continue;
      found++;
      for (i64 from = offsets[j]; from < offsets[j + 1]; from += blockDim.x) {
        i64 e = from + threadIdx.x;
        bool present = e < offsets[j + 1];
        int column = present ? columns[e] : 0;
        bool is_new = present && sums_N[column] == 0;
        int at = place(is_new, length, warps);
        if (is_new) touched_N[at] = column;
        if (present) sums_N[column] = __dadd_rn(sums_N[column], values[e]);
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) lengths_U[u] = *length;
    for (int f = threadIdx.x; f < *length; f += blockDim.x) {
      int column = touched_N[f];
      if (fill) {
        out_rows[out_offsets[u] + f] = u;
        out_columns[out_offsets[u] + f] = column;
        out_values[out_offsets[u] + f] = sums_N[column] / found;
      }
      sums_N[column] = 0;
    }
    __syncthreads();
  }
}

// Adds m(u, w) to the zeros of shared_U for all rows w (or only those after u) that share a column with u, and lists these w in
// touched_U in the order in which u's columns meet them. `length`, `warps`: as for `place`, *length 0.
static __device__ void overlaps(
    int u, bool after, const i64* offsets, const int* columns, const double* values, const i64* starts, const int* by_column_rows,
    const double* by_column_values, const i64* place_E, double* shared_U, int* touched_U, int* length, int* warps) {
  for (i64 e = offsets[u]; e < offsets[u + 1]; e++) {
    double mine = values[e];
    i64 end = starts[columns[e] + 1];
    for (i64 from = after ? place_E[e] + 1 : starts[columns[e]]; from < end; from += blockDim.x) {
      i64 at = from + threadIdx.x;
      bool present = at < end;
      int w = present ? by_column_rows[at] : 0;
      double before = present ? shared_U[w] : 1;
      int to = place(before == 0, length, warps);
      if (before == 0) touched_U[to] = w;
      if (present) shared_U[w] = __dadd_rn(before, fmin(mine, by_column_values[at]));
    }
    __syncthreads();
  }
}

// J of the pairs u < w with J ≤ cutoff, of the `rows` rows u = (first + r)·step; `total` grows by the pairs of points with J < 1.
// shared_BU: zeros, touched_BU: anything; a row of each for a block. Shared: 2 ints, and one for each warp.
extern "C" __global__ void jaccard_pairs(
    int points, int first, int rows, int step, double cutoff, const i64* sizes_U, const i64* offsets, const int* columns,
    const double* values, const i64* starts, const int* by_column_rows, const double* by_column_values, const i64* place_E,
    double* shared_BU, int* touched_BU, int fill, const i64* out_offsets, int* lengths_R, u64* total, int* out_u, int* out_w,
    double* out_distance) {
  SHARED(int, lengths);  // touched, kept
  int* warps = lengths + 2;
  double* shared_U = shared_BU + (i64)blockIdx.x * points;
  int* touched_U = touched_BU + (i64)blockIdx.x * points;
  for (int r = blockIdx.x; r < rows; r += gridDim.x) {
    int u = (first + r) * step;
    if (threadIdx.x < 2) lengths[threadIdx.x] = 0;
    __syncthreads();
    overlaps(
        u, true, offsets, columns, values, starts, by_column_rows, by_column_values, place_E, shared_U, touched_U, lengths, warps);
    int found = lengths[0];
    u64 pairs = 0;
    for (int from = 0; from < found; from += blockDim.x) {
      int f = from + threadIdx.x, w = f < found ? touched_U[f] : 0;
      double distance = 2;
      if (f < found) {
        double m = shared_U[w];
        shared_U[w] = 0;
        pairs += sizes_U[u] * sizes_U[w];
        distance = 1.0 - m / (2.0 - m);
        if (distance < ROUNDING_NOISE) distance = 0;
      }
      int at = place(distance <= cutoff, lengths + 1, warps);
      if (fill && distance <= cutoff) {
        out_u[out_offsets[r] + at] = u;
        out_w[out_offsets[r] + at] = w;
        out_distance[out_offsets[r] + at] = distance;
      }
    }
    if (threadIdx.x == 0) lengths_R[r] = lengths[1];
    if (pairs) atomicAdd(total, pairs);
    __syncthreads();
  }
}

// Silhouettes of some clustered groups (distreid.labels.quality); alike_BK: zeros, a row for each block. Shared: an int, and one
// for each warp.
extern "C" __global__ void silhouettes(
    int chosen, int points, int clusters, const int* chosen_S, const int* labels_U, const i64* sizes_U, const i64* sizes_K,
    const i64* offsets, const int* columns, const double* values, const i64* starts, const int* by_column_rows,
    const double* by_column_values, const i64* place_E, double* shared_BU, int* touched_BU, double* alike_BK,
    double* silhouettes_S) {
  SHARED(int, length);
  int* warps = length + 1;
  double *shared_U = shared_BU + (i64)blockIdx.x * points, *alike_K = alike_BK + (i64)blockIdx.x * clusters;
  int* touched_U = touched_BU + (i64)blockIdx.x * points;
  for (int s = blockIdx.x; s < chosen; s += gridDim.x) {
    int u = chosen_S[s], own = labels_U[u];
    if (threadIdx.x == 0) *length = 0;
    __syncthreads();
    overlaps(
        u, false, offsets, columns, values, starts, by_column_rows, by_column_values, place_E, shared_U, touched_U, length, warps);
    int found = *length;
    for (int f = 0; f < found; f++) {  // each cluster has its thread, so that its sum has its order
      int w = touched_U[f], label = labels_U[w];
      if (label < 0 || label % blockDim.x != threadIdx.x) continue;
      double same = w == u ? 1.0 : shared_U[w] / (2.0 - shared_U[w]);
      alike_K[label] = __dadd_rn(alike_K[label], __dmul_rn(same, (double)(sizes_U[w] - (w == u))));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      double nearest = 0;
      for (int f = 0; f < found; f++) {
        int label = labels_U[touched_U[f]];
        if (label >= 0 && label != own) nearest = fmax(nearest, alike_K[label] / (double)sizes_K[label]);
      }
      double a = 1.0 - alike_K[own] / (double)(sizes_K[own] > 2 ? sizes_K[own] - 1 : 1), b = 1.0 - nearest, larger = fmax(a, b);
      silhouettes_S[s] = sizes_K[own] > 1 && larger > 0 ? (b - a) / larger : 0;
    }
    __syncthreads();
    for (int f = threadIdx.x; f < found; f += blockDim.x) {
      shared_U[touched_U[f]] = 0;
      if (labels_U[touched_U[f]] >= 0) alike_K[labels_U[touched_U[f]]] = 0;
    }
    __syncthreads();
  }
}

// DBSCAN on the pairs within eps. Integers only: the result does not depend on the order in which threads run.
extern "C" __global__ void degrees(i64 pairs, const int* u_E, const int* w_E, const i64* sizes_U, u64* near_U) {
  i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= pairs) return;
  atomicAdd(near_U + u_E[e], (u64)sizes_U[w_E[e]]);
  atomicAdd(near_U + w_E[e], (u64)sizes_U[u_E[e]]);
}

static __device__ int root(int* parent_U, int u) {
  for (int up; (up = ((volatile int*)parent_U)[u]) != u;) u = up;
  return u;
}

// Joins the trees of two core points: the larger root is hung under the smaller, so that a tree's root is its first core point.
extern "C" __global__ void join(i64 pairs, const int* u_E, const int* w_E, const u8* core_U, int* parent_U) {
  i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= pairs || !core_U[u_E[e]] || !core_U[w_E[e]]) return;
  int a = u_E[e], b = w_E[e];
  while ((a = root(parent_U, a)) != (b = root(parent_U, b))) {
    if (a < b) {
      int smaller = a;
      a = b;
      b = smaller;
    }
    if (atomicCAS(parent_U + a, a, b) == a) return;
  }
}

extern "C" __global__ void flatten(int points, int* parent_U, int* root_U) {
  int u = blockIdx.x * blockDim.x + threadIdx.x;
  if (u < points) root_U[u] = root(parent_U, u);
}

// The first core point of each component, given any numbers 0 … points - 1 of components; first_K starts as NOT_REACHED.
extern "C" __global__ void first_cores(int points, const u8* core_U, const int* component_U, int* first_K) {
  int u = blockIdx.x * blockDim.x + threadIdx.x;
  if (u < points && core_U[u]) atomicMin(first_K + component_U[u], u);
}

// The first of the clusters that reach a border point; first_U starts as NOT_REACHED.
extern "C" __global__ void borders(
    i64 pairs, const int* u_E, const int* w_E, const u8* core_U, const int* cluster_U, int* first_U) {
  i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= pairs) return;
  int u = u_E[e], w = w_E[e];
  if (core_U[u] && !core_U[w]) atomicMin(first_U + w, cluster_U[u]);
  if (core_U[w] && !core_U[u]) atomicMin(first_U + u, cluster_U[w]);
}

// C_k, a block a cluster: the mean of its members' features times their scales, summed in float64 in the members' order.
extern "C" __global__ void centers(
    int dim, const i64* members, const i64* offsets, const REAL* x_ND, const double* scales_N, float* centers_KD) {
  i64 begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
  for (int d = threadIdx.x; d < dim; d += blockDim.x) {
    double sum = 0;
    for (i64 m = begin; m < end; m++) sum = __dadd_rn(sum, __dmul_rn((double)x_ND[members[m] * dim + d], scales_N[members[m]]));
    centers_KD[(i64)blockIdx.x * dim + d] = (float)(sum / (double)(end - begin));
  }
}

// Re-ranking (distreid.evaluation.rerank_kernels).

// The dot product of two rows in float64 as distreid.evaluation.kernels, by eight threads with a running sum each. Whole warps call.
static __device__ double score(const REAL* x_ND, int dim, i64 i, i64 j) {
  const REAL *a_D = x_ND + i * dim, *b_D = x_ND + j * dim;
  int lane = threadIdx.x & 7, whole = dim - dim % 8;
  double sum = 0;
  for (int d = lane; d < whole; d += 8) sum = __dadd_rn(sum, __dmul_rn((double)a_D[d], (double)b_D[d]));
  for (int d = whole; d < dim && lane == 0; d++) sum = __dadd_rn(sum, __dmul_rn((double)a_D[d], (double)b_D[d]));
  sum = __dadd_rn(sum, __shfl_down_sync(~0u, sum, 4));
  sum = __dadd_rn(sum, __shfl_down_sync(~0u, sum, 1));
  sum = __dadd_rn(sum, __shfl_down_sync(~0u, sum, 2));
  return __shfl_sync(~0u, sum, threadIdx.x & 24);
}

static __device__ double relative(double score, double farthest) {
  return fmax(__dsub_rn(2.0, __dmul_rn(2.0, score)), 0.0) / fmax(farthest, TINY);
}

extern "C" __global__ void scores(i64 pairs, int dim, const REAL* x_ND, const int* i_E, const int* j_E, double* scores_E) {
  i64 e = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 8, at = e < pairs ? e : pairs - 1;
  double found = score(x_ND, dim, i_E[at], j_E[at]);
  if (e < pairs && (threadIdx.x & 7) == 0) scores_E[e] = found;
}

// The largest d² of the rows first + r, a warp each, given their float32 products with all.
extern "C" __global__ void farthest(
    int rows, int count, int dim, int first, double error, const float* cosines_RN, const REAL* x_ND, double* farthest_N) {
  int r = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x & 31, i = first + r;
  if (r >= rows) return;  // whole warps
  const float* row_N = cosines_RN + (i64)r * count;
  float least = 3e38f;
  for (int j = lane; j < count; j += 32)
    if (j != i) least = fminf(least, row_N[j]);
  for (int width = 16; width; width /= 2) least = fminf(least, __shfl_down_sync(~0u, least, width));
  double limit = __dadd_rn((double)__shfl_sync(~0u, least, 0), __dmul_rn(2.0, error)), lowest = score(x_ND, dim, i, i);
  for (int from = 0; from < count; from += 32) {
    int j = from + lane;
    unsigned mask = __ballot_sync(~0u, j < count && j != i && row_N[j] <= limit);
    for (int at = from; mask; at++, mask >>= 1)
      if (mask & 1) lowest = fmin(lowest, score(x_ND, dim, i, at));
  }
  if (lane == 0) farthest_N[i] = __dsub_rn(2.0, __dmul_rn(2.0, lowest));
}

// V's values, of d² over the row's largest: a block takes rows.
extern "C" __global__ void relative_weights(
    int rows, int dim, const REAL* x_ND, const double* farthest_N, const i64* offsets, const int* columns, double* values) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    i64 begin = offsets[i];
    int length = offsets[i + 1] - begin;
    for (int from = 0; from < length; from += blockDim.x / 8) {
      int e = from + threadIdx.x / 8;
      double found = score(x_ND, dim, i, columns[begin + (e < length ? e : length - 1)]);
      if (e < length && (threadIdx.x & 7) == 0) values[begin + e] = decay(relative(found, farthest_N[i]));
    }
    to_sum_of_one(values + begin, length);
  }
}

// Ranks of the positives of queries first + r, given float32 products with the gallery: a block takes queries. found_T: anything,
// jaccard_BG: zeros, touched_BG: anything. Shared: 3 ints, and one for each warp.
extern "C" __global__ void positive_ranks(
    int first, int rows, int queries, int gallery, int dim, double lambda, double error, const float* cosines_RG, const REAL* x_ND,
    const double* farthest_N, const i64* offsets, const int* columns, const double* values, const i64* starts,
    const int* by_column_rows, const double* by_column_values, const i64* same_offsets, const i64* same,
    const i64* positive_offsets, const i64* positives, double* found_T, double* jaccard_BG, int* touched_BG, i64* ranks_T) {
  SHARED(int, sizes);  // touched or undecided; before a positive; its place among the positives
  int *warps = sizes + 3, lane = threadIdx.x & 7, eighths = blockDim.x / 8;
  double* jaccard_G = jaccard_BG + (i64)blockIdx.x * gallery;
  int* touched_G = touched_BG + (i64)blockIdx.x * gallery;
  for (int r = blockIdx.x; r < rows; r += gridDim.x) {
    int q = first + r;
    i64 begin = positive_offsets[q], end = positive_offsets[q + 1];
    if (begin == end) continue;
    const float* cosines_G = cosines_RG + (i64)r * gallery;
    double largest = farthest_N[q];
    double slack = lambda * 2.0 * error / fmax(largest, TINY) * (1.0 + 1e-9) + 1e-12;
    if (threadIdx.x == 0) sizes[0] = 0;
    __syncthreads();
    overlaps(
        q, false, offsets, columns, values, starts, by_column_rows, by_column_values, 0, jaccard_G, touched_G, sizes, warps);
    for (int g = threadIdx.x; g < gallery; g += blockDim.x)
      jaccard_G[g] = __dmul_rn(1.0 - lambda, 1.0 - jaccard_G[g] / (2.0 - jaccard_G[g]));
    __syncthreads();
    for (i64 from = begin; from < end; from += eighths) {
      i64 p = from + threadIdx.x / 8, own = positives[p < end ? p : end - 1];
      double distance = __dadd_rn(__dmul_rn(lambda, relative(score(x_ND, dim, q, queries + own), largest)), jaccard_G[own]);
      if (p < end && lane == 0) found_T[p] = distance;
    }
    __syncthreads();
    for (i64 s = same_offsets[q] + threadIdx.x; s < same_offsets[q + 1]; s += blockDim.x) jaccard_G[same[s]] = NEVER;
    for (i64 p = begin; p < end; p++) {
      double mine = found_T[p], low = mine - slack, high = mine + slack;
      int before = 0, place_among = 0;
      if (threadIdx.x < 3) sizes[threadIdx.x] = 0;
      __syncthreads();
      for (int from = 0; from < gallery; from += blockDim.x) {
        int g = from + threadIdx.x;
        double about = NEVER;
        if (g < gallery) about = __dadd_rn(__dmul_rn(lambda, relative((double)cosines_G[g], largest)), jaccard_G[g]);
        bool perhaps = about >= low && about <= high;
        int at = place(perhaps, sizes, warps);
        if (perhaps) touched_G[at] = g;
        before += about < low;
      }
      __syncthreads();
      for (int from = 0; from < sizes[0]; from += eighths) {
        int at = from + threadIdx.x / 8, g = touched_G[at < sizes[0] ? at : 0];
        double distance = __dadd_rn(__dmul_rn(lambda, relative(score(x_ND, dim, q, queries + g), largest)), jaccard_G[g]);
        if (at < sizes[0] && lane == 0) before += distance < mine || (distance == mine && g < positives[p]);
      }
      for (i64 o = begin + threadIdx.x; o < end; o += blockDim.x)
        place_among += found_T[o] < mine || (found_T[o] == mine && o < p);
      if (before) atomicAdd(sizes + 1, before);
      if (place_among) atomicAdd(sizes + 2, place_among);
      __syncthreads();
      if (threadIdx.x == 0) ranks_T[begin + sizes[2]] = 1 + sizes[2] + sizes[1];
      __syncthreads();
    }
    for (int g = threadIdx.x; g < gallery; g += blockDim.x) jaccard_G[g] = 0;
    __syncthreads();
  }
}
