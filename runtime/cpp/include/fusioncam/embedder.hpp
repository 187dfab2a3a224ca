// The embeddings of pictures, without explaining them: references of likenesses.
#ifndef FUSIONCAM_EMBEDDER_HPP
#define FUSIONCAM_EMBEDDER_HPP

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "answer.hpp"
#include "error.hpp"
#include "explainer.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "onnx_metadata.hpp"
#include "picture.hpp"
#include "session.hpp"
#include "target.hpp"

namespace fusioncam {

/// Makes embeddings of pictures with a bundle's explain.onnx, by one pass each.
///
///     explainer.explain(photo, fusioncam::Like{fusioncam::Embedder("model.fcam").embed(other)});
///
/// Any number of threads may share one.
class Embedder {
  public:
    /// Opens the whole folder of a bundle: its fusioncam.onnx says how pictures are prepared.
    ///
    /// Throws BundleError where a file is missing or damaged, UsageError where the model gives no embeddings.
    explicit Embedder(const std::filesystem::path &bundle,
                      const Ort::SessionOptions &options = Explainer::default_options())
        : manifest_(checked(detail::manifest_of(bundle))), session_(bundle / detail::EXPLAIN_GRAPH, options) {}

    /// The embedding of a photo of any size, float32 of length D. Throws as Explainer::explain.
    std::vector<float> embed(const PhotoView &photo) const { return run(detail::input_of(photo, manifest_).data()); }

    /// The embedding of a preprocessed input; the values are not copied.
    std::vector<float> embed(const InputView &input) const {
        detail::check_input(input, manifest_);
        return run(input.values);
    }

  private:
    static Manifest checked(Manifest manifest) {
        if (!manifest.is_embedding()) {
            throw UsageError("the model gives classes, and no embedding: there is no reference to make with it");
        }
        return manifest;
    }

    std::vector<float> run(const float *x) const {
        detail::TargetTensors any;
        any.reference.assign(manifest_.classes, 1.0F); // the graph wants one; the embedding does not depend on it
        const detail::Tensor output = detail::outputs_of(manifest_).front();
        detail::Outputs outputs =
            session_.run(detail::inputs_of(manifest_), {output}, x, any, Ort::RunOptions{nullptr});
        detail::check_finite(outputs, output);
        return std::move(outputs.floats.at(output.name));
    }

    Manifest manifest_;
    detail::Session session_;
};

} // namespace fusioncam

#endif
