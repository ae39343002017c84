// Adam on many adapted fully connected networks, one after the other, each through a whole block of batches.
//
// A network is small enough to stay in the first-level cache with some rows of a batch, and that is all there is to the
// speed: nothing is written that another member could push out. z_l = act((W_l + B_l A_l) z_{l-1} + b_l).
//
// Matrices lie row by row, rows padded with zeros to whole groups of 16. B is kept transposed, as A is. All sums run in
// an order that is fixed by the shapes alone, so that every CPU finds the same bits; hence no -ffast-math, no libm.

#include <algorithm>
#include <cstdint>
#include <new>
#include <optional>
#include <vector>

#include "adam.h"
#include "divergence.h"
#include "job.h"
#include "products.h"

namespace {

// What a layer works with: weights as they are now, hidden values of some rows, gradients.
struct Work {
    const Layer* layer;
    long in, out;                // padded widths
    const float *weight, *bias;  // (outputs, inputs), (outputs)
    const float* turned;         // weight transposed
    float *merged, *merged_turned;
    float* hidden;            // (ROWS, outputs), after the activation
    float *grad, *grad_bias;  // of weight and bias, summed over the rows so far
};

class Trainer {
   public:
    explicit Trainer(const Job& job) : job_(job), work_(job.depth) {
        long widest = 0, most = 0;
        for (int l = 0; l < job.depth; l++) {
            Work& w = work_[l];
            w.layer = &job.layers[l];
            w.in = padded(w.layer->inputs), w.out = padded(w.layer->outputs);
            w.merged = memory_.take(w.out * w.in), w.merged_turned = memory_.take(w.out * w.in);
            w.hidden = memory_.take(ROWS * w.out);
            w.grad = memory_.take(w.out * w.in), w.grad_bias = memory_.take(w.out);
            widest = std::max({widest, w.in, w.out});
            most = std::max(most, w.in * w.out);
        }
        for (lowest_ = 0; lowest_ < job.depth - 1 && !trained(work_[lowest_]);) lowest_++;
        for (float*& buffer : back_) buffer = memory_.take(ROWS * widest);
        for (int m = 0; m < job.members; m++)
            for (int l = 0; l < job.depth; l++)
                most = std::max(most, widest * padded(job.ranks[(long)m * job.depth + l]));
        grad_turned_ = memory_.take(most), grad_factor_ = memory_.take(most);
        prepare();
    }

    // What the layers make of a batch, all of them fixed.
    void outputs(const Batch& batch, float* to) {
        merge();
        const Work& top = work_.back();
        for (int64_t row = 0; row < batch.rows; row += ROWS) {
            const int rows = (int)std::min<int64_t>(ROWS, batch.rows - row);
            forward(batch.inputs + row * work_[0].in, rows);
            std::copy_n(top.hidden, rows * top.out, to + row * top.out);
        }
    }

    void run(int member) {
        member_ = member;
        state_ = job_.state + member * job_.size;
        ranks_ = job_.ranks + (long)member * job_.depth;
        merge();
        float* losses = job_.losses + member;
        for (int step = 0; step < job_.steps; step++) {
            if (job_.checked[step]) {
                keep(*losses = (float)loss(job_.held_out));
                losses += job_.members;
            }
            if (job_.batches) {
                descend(step);
                merge();
            }
        }
    }

   private:
    static bool trained(const Work& w) { return w.layer->kind != FIXED || w.layer->shifted; }

    void merge() {
        for (int l = 0; l < job_.depth; l++) {
            Work& w = work_[l];
            const Layer& layer = *w.layer;
            w.bias = layer.shifted ? state_ + layer.bias : layer.fixed;
            w.weight = layer.frozen, w.turned = layer.turned;
            if (layer.kind == WHOLE) {
                w.weight = state_ + layer.weight, w.turned = w.merged_turned;
                transpose(w.weight, w.out, layer.inputs, w.merged_turned);
            } else if (layer.kind == ADAPTED) {
                const float *a = state_ + layer.right, *b = state_ + layer.left;
                w.weight = w.merged, w.turned = w.merged_turned;
                const int rank = ranks_[l], in = tiled(layer.inputs), out = tiled(layer.outputs);
                multiply<true>({a, w.in, b, w.out, layer.turned, w.out, w.merged_turned, in, rank}, as_is);
                if (l > lowest_)  // the gradient goes no further down
                    multiply<true>({b, w.out, a, w.in, layer.frozen, w.in, w.merged, out, rank}, as_is);
            }
        }
    }

    void forward(const float* inputs, int rows) {
        for (Work& w : work_) {
            const Product p{inputs, w.in, w.turned, w.out, w.bias, 0, w.hidden, rows, w.layer->inputs};
            if (job_.relu)
                multiply<false>(p, [](Lanes value, long) { return positive(value); });
            else
                multiply<false>(p, as_is);
            inputs = w.hidden;
        }
    }

    // What the divergence needs of the targets is the same for all members.
    void prepare() {
        if (job_.objective == SQUARES) return;
        const int outputs = work_.back().layer->outputs;
        divergence_.emplace(outputs, job_.objective == HALVES, memory_);
        held_out_ = divergence_->prepare(job_.held_out.targets, job_.held_out.rows, memory_);
        for (int step = 0; job_.batches && step < job_.steps; step++)
            wanted_.push_back(divergence_->prepare(job_.batches[step].targets, job_.batches[step].rows, memory_));
    }

    double loss(const Batch& batch) {
        const Work& top = work_.back();
        double sum = 0;
        for (int64_t row = 0; row < batch.rows; row += ROWS) {
            const int rows = (int)std::min<int64_t>(ROWS, batch.rows - row);
            forward(batch.inputs + row * work_[0].in, rows);
            if (divergence_)
                sum += divergence_->loss(top.hidden, held_out_, row, rows);
            else
                sum += squares(top.hidden, batch.targets + row * top.out, rows * top.out);
        }
        return sum / (batch.rows * (divergence_ ? 1.0 : top.layer->outputs));
    }

    static double squares(const float* values, const float* targets, long count) {
        Lanes sum[VECTORS] = {};
        for (long i = 0; i < count; i += GROUP)
            for (int v = 0; v < VECTORS; v++) {
                const Lanes gap = load(values + i + v * LANES) - load(targets + i + v * LANES);
                sum[v] = fma(gap, gap, sum[v]);
            }
        return total(sum);
    }

    void keep(float loss) {
        if (!(loss < job_.best[member_])) return;
        job_.best[member_] = loss;
        memcpy(job_.kept + member_ * job_.size, state_, job_.size * sizeof(float));
    }

    void descend(int step) {
        const Batch& batch = job_.batches[step];
        const Work& top = work_.back();
        for (Work& w : work_) {
            std::fill_n(w.grad, w.out * w.in, 0.0f);
            std::fill_n(w.grad_bias, w.out, 0.0f);
        }
        for (int64_t row = 0; row < batch.rows; row += ROWS) {
            const int rows = (int)std::min<int64_t>(ROWS, batch.rows - row);
            const float* inputs = batch.inputs + row * work_[0].in;
            forward(inputs, rows);
            if (divergence_)
                divergence_->gradient(top.hidden, wanted_[step], row, rows, back_[0]);
            else
                subtract(top.hidden, batch.targets + row * top.out, rows * top.out, back_[0]);
            if (job_.relu) mask(top.hidden, rows * top.out, back_[0]);
            backward(inputs, rows);
        }
        // the gradient so far lacks a factor
        update(divergence_ ? 1.0 / batch.rows : 2 / ((double)batch.rows * top.layer->outputs), job_.done + step + 1);
    }

    static void subtract(const float* values, const float* targets, long count, float* to) {
        for (long i = 0; i < count; i += LANES) store(to + i, load(values + i) - load(targets + i));
    }

    static void mask(const float* values, long count, float* gradient) {
        for (long i = 0; i < count; i += LANES)
            store(gradient + i, load(values + i) <= 0 ? Lanes{} : load(gradient + i));
    }

    void backward(const float* inputs, int rows) {
        float *up = back_[0], *down = back_[1];
        for (int l = job_.depth - 1; l >= lowest_; l--, std::swap(up, down)) {
            Work& w = work_[l];
            const float* below = l ? work_[l - 1].hidden : inputs;
            if (w.layer->kind != FIXED) {
                multiply<true>({up, w.out, below, w.in, w.grad, w.in, w.grad, tiled(w.layer->outputs), rows}, as_is);
            }
            if (w.layer->shifted) add_rows(up, rows, w.out, w.grad_bias);
            if (l == lowest_) break;
            const Product p{up, w.out, w.weight, w.in, nullptr, 0, down, rows, w.layer->outputs};
            if (job_.relu)
                multiply<false>(p, [=](Lanes value, long i) { return load(below + i) <= 0 ? Lanes{} : value; });
            else
                multiply<false>(p, as_is);
        }
    }

    static void add_rows(const float* values, int rows, long width, float* sums) {
        for (long column = 0; column < width; column += LANES) {
            Lanes sum[4] = {};  // rows 0, 4, 8, ...; 1, 5, 9, ...: one addition need not wait for the other
            for (int row = 0; row < rows; row++) sum[row % 4] += load(values + row * width + column);
            store(sums + column, load(sums + column) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
        }
    }

    void update(double scale, int64_t count) {
        const double decay = job_.decay[member_];
        const Adam usual(job_.rates[member_], decay, job_.decoupled, scale, count);
        const Adam left(job_.left_rates[member_], decay, job_.decoupled, scale, count);
        for (int l = lowest_; l < job_.depth; l++) {
            const Work& w = work_[l];
            const Layer& layer = *w.layer;
            if (layer.kind == ADAPTED) {
                const float *a = state_ + layer.right, *b = state_ + layer.left;
                const int rank = ranks_[l], rows = tiled(rank);
                transpose(w.grad, w.out, layer.inputs, grad_turned_);
                // of both before either moves; what is transposed is of no more use after the first
                float *of_left = grad_factor_, *of_right = grad_turned_;
                multiply<false>({a, w.in, grad_turned_, w.out, nullptr, 0, of_left, rows, layer.inputs}, as_is);
                multiply<false>({b, w.out, w.grad, w.in, nullptr, 0, of_right, rows, layer.outputs}, as_is);
                move(usual, layer.right, of_right, rank * w.in);
                move(left, layer.left, of_left, rank * w.out);
            }
            if (layer.kind == WHOLE) move(usual, layer.weight, w.grad, layer.outputs * w.in);
            if (layer.shifted) move(usual, layer.bias, w.grad_bias, w.out);
        }
    }

    void move(const Adam& adam, int64_t place, const float* gradient, long count) {
        const int64_t own = member_ * job_.size + place;
        adam(job_.state + own, job_.first + own, job_.second + own, gradient, count);
    }

    const Job& job_;
    Memory memory_;
    std::vector<Work> work_;
    int lowest_, member_ = 0;
    float* state_ = nullptr;
    const int32_t* ranks_ = nullptr;
    float *back_[2], *grad_turned_, *grad_factor_;
    std::optional<Divergence> divergence_;
    Divergence::Wanted held_out_ = {};
    std::vector<Divergence::Wanted> wanted_;
};

}  // namespace

// Both return 0, or 1 where there is no memory left.
extern "C" int lorascope_train(const Job* job) {
    try {
        const NoSubnormals mode;
        Trainer trainer(*job);
        for (int member = 0; member < job->members; member++) trainer.run(member);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

// (rows, outputs) of the last layer; of the job, layers, depth and relu are used.
extern "C" int lorascope_outputs(const Job* job, float* to) {
    try {
        const NoSubnormals mode;
        Trainer(*job).outputs(job->held_out, to);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
