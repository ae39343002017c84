// Kullback-Leibler divergence of a network's classes from the target's, with an exponential and a logarithm that are
// the same everywhere. Rows of a batch lie along the lanes here, so that no sum goes across them.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "products.h"

namespace {

typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

// The first coefficient is that of the highest power.
INLINE Lanes polynomial(Lanes x, std::initializer_list<float> coefficients) {
    Lanes value = {};
    for (float coefficient : coefficients) value = fma(value, x, splat(coefficient));
    return value;
}

// To a few units in the last place, for x up to 88; coefficients of Cephes' expf.
INLINE Lanes exponential(Lanes x) {
    const float least = -87, rounding = 12582912;  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const Lanes held = x < least ? splat(least) : x;
    const Lanes shifted = fma(held, splat(1.44269504f), splat(rounding)), power = shifted - rounding;
    const Lanes rest = fma(power, splat(2.12194440e-4f), fma(power, splat(-0.693359375f), held));
    const Lanes series = polynomial(rest, {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                                           1.6666665459e-1f, 5.0000001201e-1f, 1, 1});
    const Integers exponent = ((Integers)shifted - (Integers)splat(rounding) + 127) << 23;
    return x < least ? Lanes{} : series * (Lanes)exponent;
}

// Of a normal x > 0; coefficients of Cephes' logf.
INLINE Lanes logarithm(Lanes x) {
    const Integers bits = (Integers)x, half = (Integers)splat(0.70710678f);
    const Integers exponent = (bits - half) >> 23;  // so that what is left is between the roots of 1/2 and 2
    const Lanes rest = (Lanes)(bits - (exponent << 23)) - 1, square = rest * rest;
    const Lanes power = __builtin_convertvector(exponent, Lanes);
    const Lanes series =
        polynomial(rest, {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                          -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f});
    const Lanes low = fma(square, splat(-0.5f), fma(power, splat(-2.12194440e-4f), series * rest * square));
    const Lanes found = fma(power, splat(0.693359375f), rest + low);
    return x < 3e38f ? found : x;  // what is no number, or too large for one, stays
}

class Divergence {
   public:
    // Of a whole batch, blocks of (classes, rows up to a whole group).
    struct Wanted {
        float *logs, *shares;  // log p and p
    };

    Divergence(int outputs, bool halves, Memory& memory)
        : outputs_(outputs), classes_(halves ? 2 : outputs), halves_(halves) {
        const long size = padded(outputs) * ROWS;
        turned_ = memory.take(size), logs_ = memory.take(size), spread_ = memory.take(size);
    }

    Wanted prepare(const float* targets, long rows, Memory& memory) {
        const Wanted wanted = {memory.take(classes_ * padded(rows)), memory.take(classes_ * padded(rows))};
        for (long row = 0; row < rows; row += ROWS) {
            const int count = (int)std::min<long>(ROWS, rows - row);
            float* logs = wanted.logs + classes_ * row;
            log_softmax(targets + row * padded(outputs_), count, logs);
            for (long i = 0; i < classes_ * padded(count); i += LANES)
                store(wanted.shares + classes_ * row + i, exponential(load(logs + i)));
        }
        return wanted;
    }

    // The sum over `count` rows from `row` on, each class p (exp(t) - 1 - t) with t = log q - log p: never negative,
    // and exact where p and q are close.
    double loss(const float* values, const Wanted& wanted, long row, int count) {
        const long width = padded(count);
        log_softmax(values, count, logs_);
        float each[ROWS];
        for (long lane = 0; lane < width; lane += LANES) {
            Lanes sum = {};
            for (long i = lane; i < classes_ * width; i += width) {
                const Lanes log_q = load(logs_ + i), p = load(wanted.shares + classes_ * row + i);
                sum += term(log_q, log_q - load(wanted.logs + classes_ * row + i), p);
            }
            store(each + lane, sum);
        }
        double sum = 0;
        for (int i = 0; i < count; i++) sum += each[i];
        return sum;
    }

    // By the outputs, q - p of the class that each belongs to; for the sum over rows.
    void gradient(const float* values, const Wanted& wanted, long row, int count, float* to) {
        const long width = padded(count), size = padded(outputs_);
        log_softmax(values, count, logs_);
        for (long i = 0; i < classes_ * width; i += LANES)
            store(logs_ + i, exponential(load(logs_ + i)) - load(wanted.shares + classes_ * row + i));
        std::fill_n(spread_, size * width, 0.0f);
        for (int output = 0; output < outputs_; output++)
            std::copy_n(logs_ + class_of(output) * width, width, spread_ + output * width);
        transpose(spread_, size, count, to);
    }

   private:
    int class_of(int output) const { return halves_ ? 2 * output / outputs_ : output; }

    static Lanes term(Lanes log_q, Lanes t, Lanes p) {
        const Lanes near = t * t *
                           polynomial(t, {2.5052108e-8f, 2.7557319e-7f, 2.7557319e-6f, 2.4801587e-5f, 1.9841270e-4f,
                                          1.3888889e-3f, 8.3333333e-3f, 4.1666667e-2f, 1.6666667e-1f, 0.5f});
        const Lanes far = t < 0 ? p * (exponential(t) - 1 - t) : exponential(log_q) - p - p * t;
        return ((t >= -1) & (t <= 1)) ? p * near : far;
    }

    // (rows, outputs) -> log of the classes' probabilities, (classes, rows)
    void log_softmax(const float* values, int rows, float* logs) {
        const long width = padded(rows);
        transpose(values, rows, outputs_, turned_);
        for (long lane = 0; lane < width; lane += LANES) {
            for (int k = 0; k < classes_; k++) store(logs + k * width + lane, Lanes{});
            for (int output = 0; output < outputs_; output++) {
                float* score = logs + class_of(output) * width + lane;
                store(score, load(score) + load(turned_ + output * width + lane));
            }
            Lanes most = load(logs + lane), sum = {};
            for (int k = 1; k < classes_; k++) {
                const Lanes score = load(logs + k * width + lane);
                most = score > most ? score : most;
            }
            for (int k = 0; k < classes_; k++) sum += exponential(load(logs + k * width + lane) - most);
            const Lanes level = logarithm(sum);
            for (int k = 0; k < classes_; k++)
                store(logs + k * width + lane, load(logs + k * width + lane) - most - level);
        }
    }

    int outputs_, classes_;
    bool halves_;
    float *turned_, *logs_, *spread_;
};

}  // namespace
