// Products of small matrices, rows padded with zeros to whole groups.
#pragma once

#include <cstdint>
#include <vector>

#include "lanes.h"

namespace {

enum { ROWS = 64 };  // of a batch that go through the network together

INLINE long padded(long count) { return (count + GROUP - 1) / GROUP * GROUP; }

// Rows of a product between matrices that have zeros up to there.
INLINE int tiled(long count) { return (int)(count + TILE - 1) / TILE * TILE; }

// out[i, :] = start[i, :] + sum_k left[i, k] right[k, :]; with FLIPPED it is left[k, i].
struct Product {
    const float* left;
    long stride;  // of left
    const float* right;
    long width;  // of right and out
    const float* start;
    long start_stride;  // 0: the same for all rows
    float* out;
    int rows, inner;
};

// `finish(value, place)` is what is stored at out[place]. INNER: what `inner` is, and GROUP what stride is, or 0.
template <int COUNT, bool FLIPPED, int INNER, class Finish>
INLINE void tile(const Product& p, long i, long column, Finish finish) {
    const long stride = INNER ? (long)GROUP : p.stride;
    const int inner = INNER ? INNER : p.inner;
    Lanes sum[COUNT][VECTORS];
    for (int r = 0; r < COUNT; r++)
        for (int v = 0; v < VECTORS; v++)
            sum[r][v] = p.start ? load(p.start + (i + r) * p.start_stride + column + v * LANES) : Lanes{};
    const float* left = p.left + (FLIPPED ? i : i * stride);
    const float* right = p.right + column;
#pragma GCC unroll 16
    for (int k = 0; k < inner; k++, right += p.width) {
        Lanes row[VECTORS];
        for (int v = 0; v < VECTORS; v++) row[v] = load(right + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < COUNT; r++) {
            const Lanes factor = splat(FLIPPED ? left[k * stride + r] : left[r * stride + k]);
            for (int v = 0; v < VECTORS; v++) sum[r][v] = fma(factor, row[v], sum[r][v]);
        }
    }
    for (int r = 0; r < COUNT; r++)
        for (int v = 0; v < VECTORS; v++) {
            const long place = (i + r) * p.width + column + v * LANES;
            store(p.out + place, finish(sum[r][v], place));
        }
}

template <bool FLIPPED, int INNER, class Finish>
void tiles(const Product& p, Finish finish) {
    for (long column = 0; column < p.width; column += GROUP) {
        long i = 0;
        for (; i + TILE <= p.rows; i += TILE) tile<TILE, FLIPPED, INNER>(p, i, column, finish);
        for (; i < p.rows; i++) tile<1, FLIPPED, INNER>(p, i, column, finish);
    }
}

template <bool FLIPPED, class Finish>
INLINE void multiply(const Product& p, Finish finish) {
    if (!FLIPPED && p.inner == GROUP && p.stride == GROUP)
        tiles<FLIPPED, GROUP>(p, finish);
    else
        tiles<FLIPPED, 0>(p, finish);
}

constexpr auto as_is = [](Lanes value, long) { return value; };

// Rows of both are padded; what the result's rows end in is left as it is.
void transpose(const float* from, long rows, long columns, float* to) {
    const long width = padded(columns), height = padded(rows);
    for (long i = 0; i < rows; i++)
        for (long k = 0; k < columns; k++) to[k * height + i] = from[i * width + k];
}

class Memory {
   public:
    float* take(long count) {
        blocks_.emplace_back(padded(count) + GROUP);
        const auto address = reinterpret_cast<uintptr_t>(blocks_.back().data());
        return reinterpret_cast<float*>((address + 63) / 64 * 64);
    }

   private:
    std::vector<std::vector<float>> blocks_;
};

}  // namespace
