// What Python hands over; interface.py has the same.
#pragma once

#include <cstdint>

extern "C" {

enum Kind : int32_t { FIXED, ADAPTED, WHOLE };
enum Objective : int32_t { SQUARES, CLASSES, HALVES };  // in the order of lorascope.optim.OBJECTIVES

struct Layer {
    int32_t inputs, outputs;
    int32_t kind, shifted;                 // shifted: the bias is trained
    int64_t right, left, weight, bias;     // places of A, B transposed, W and b in a member's state
    const float *frozen, *turned, *fixed;  // (outputs, inputs), (inputs, outputs), (outputs)
};

struct Batch {
    const float *inputs, *targets;  // (rows, inputs), (rows, outputs)
    int64_t rows;
};

struct Job {
    const Layer* layers;
    int32_t depth, relu, members, steps, decoupled, objective;
    int64_t size;                              // of a member's state
    int64_t done;                              // steps before these
    float *state, *first, *second, *kept;      // (members, size)
    float* best;                               // (members)
    const int32_t* ranks;                      // (members, depth)
    const double *rates, *left_rates, *decay;  // (members)
    const Batch* batches;                      // (steps)
    const uint8_t* checked;                    // (steps): whether to validate before the step
    Batch held_out;
    float* losses;  // (checks, members)
};
}
