// What a model makes of its logits.
#ifndef FUSIONCAM_PROBABILITIES_HPP
#define FUSIONCAM_PROBABILITIES_HPP

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace fusioncam {

/// What the model makes of its logits: a softmax, or what the manifest calls their ending, in double precision.
inline std::vector<double> probabilities(const std::vector<float> &logits, const std::string &ending) {
    std::vector<double> result(logits.begin(), logits.end());
    if (ending == "sigmoid") {
        for (double &x : result) {
            x = x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
        }
    } else if (ending != "value" && !result.empty()) {
        const double top = *std::max_element(result.begin(), result.end());
        for (double &x : result) {
            x = std::exp(x - top);
        }
        const double sum = std::accumulate(result.begin(), result.end(), 0.0);
        for (double &x : result) {
            x /= sum;
        }
    }
    return result;
}

} // namespace fusioncam

#endif
