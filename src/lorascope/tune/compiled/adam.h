// Adam's update of some parameters of one member.
#pragma once

#include <cmath>
#include <cstdint>

#include "lanes.h"

namespace {

constexpr double BETA1 = 0.9, BETA2 = 0.999;
constexpr float EPSILON = 1e-8f;

// To the power of a whole number, by multiplications alone, which are the same on every machine.
double power(double base, int64_t exponent) {
    double result = 1;
    for (; exponent; exponent /= 2, base *= base)
        if (exponent % 2) result *= base;
    return result;
}

class Adam {
   public:
    // `scale` is a factor that the gradients lack, `count` the step from 1. Decoupled decay shrinks the parameter, the
    // other kind is part of the gradient.
    Adam(double rate, double decay, bool decoupled, double scale, int64_t count)
        : step_(splat((float)(rate / (1 - power(BETA1, count))))),
          shrink_(splat((float)(decoupled ? 1 - rate * decay : 1))),
          decay_(splat((float)(decoupled ? 0 : decay))),
          scale_(splat((float)scale)),
          spread_(splat((float)(1 / std::sqrt(1 - power(BETA2, count))))) {}

    // Parameters p and moments m and v, `count` of each, a multiple of LANES.
    void operator()(float* p, float* m, float* v, const float* gradient, long count) const {
        const Lanes first = splat((float)(1 - BETA1)), second = splat((float)(1 - BETA2));
        const Lanes beta2 = splat((float)BETA2), epsilon = splat(EPSILON);
        for (long i = 0; i < count; i += LANES) {
            const Lanes value = load(p + i), grad = fma(value, decay_, load(gradient + i) * scale_);
            const Lanes mean = load(m + i), moved = fma(first, grad - mean, mean);
            const Lanes spread = fma(second * grad, grad, beta2 * load(v + i));
            store(m + i, moved);
            store(v + i, spread);
            store(p + i, value * shrink_ - step_ * moved / fma(root(spread), spread_, epsilon));
        }
    }

   private:
    Lanes step_, shrink_, decay_, scale_, spread_;
};

}  // namespace
