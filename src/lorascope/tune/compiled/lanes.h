// What differs between CPUs: how many floats a vector holds, and the few operations that C++ has no sign for.
//
// Each operation acts on every lane by itself and is rounded once, as IEEE 754 says, so that results do not depend on
// how many lanes there are. Sums over lanes go by 16 whatever the hardware has (see `total`).
#pragma once

#include <cstring>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16, TILE = 8 };  // TILE: rows of a product that are summed at a time, as many as the registers hold
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
enum { LANES = 8, TILE = 4 };
#elif defined(__aarch64__)
#include <arm_neon.h>
enum { LANES = 4, TILE = 4 };
#else
#error "needs AVX2 and FMA, or a 64-bit ARM"
#endif

enum { GROUP = 16, VECTORS = GROUP / LANES };  // rows of all matrices are padded with zeros to whole groups

typedef float Lanes __attribute__((vector_size(4 * LANES)));

INLINE Lanes load(const float* from) {
    Lanes value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float* to, Lanes value) { memcpy(to, &value, sizeof value); }

#if defined(__AVX512F__)
INLINE Lanes splat(float value) { return _mm512_set1_ps(value); }
INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Lanes root(Lanes value) { return _mm512_sqrt_ps(value); }
#elif defined(__AVX2__)
INLINE Lanes splat(float value) { return _mm256_set1_ps(value); }
INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Lanes root(Lanes value) { return _mm256_sqrt_ps(value); }
#else
INLINE Lanes splat(float value) { return vdupq_n_f32(value); }
INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { return vfmaq_f32(c, a, b); }
INLINE Lanes root(Lanes value) { return vsqrtq_f32(value); }
#endif

// Not a number stays that, as nothing else would show that a run has gone astray.
INLINE Lanes positive(Lanes value) { return value < 0 ? Lanes{} : value; }

// The sum of a group, lane 0 first.
INLINE double total(const Lanes (&group)[VECTORS]) {
    float lanes[GROUP];
    memcpy(lanes, group, sizeof lanes);
    double sum = 0;
    for (float lane : lanes) sum += lane;
    return sum;
}

// Numbers below 1e-38 count as zero while one of these lives: they slow some CPUs down a hundredfold, moments of units
// that are never on decay to them, and the caller may have it either way.
class NoSubnormals {
   public:
#if defined(__aarch64__)
    NoSubnormals() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
        __asm__ volatile("msr fpcr, %0" ::"r"((unsigned long)(1 << 24)));
    }
    ~NoSubnormals() { __asm__ volatile("msr fpcr, %0" ::"r"(before_)); }

   private:
    unsigned long before_;
#else
    NoSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(0x9fc0); }
    ~NoSubnormals() { _mm_setcsr(before_); }

   private:
    unsigned before_;
#endif
};
