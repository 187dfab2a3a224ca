// The single graph behind an Explainer: held against its manifest, and run.
#ifndef FUSIONCAM_GRAPH_HPP
#define FUSIONCAM_GRAPH_HPP

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <string>
#include <vector>

#include "interface.hpp"
#include "manifest.hpp"
#include "session.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

class Graph {
  public:
    Graph(const std::filesystem::path &bundle, const Ort::SessionOptions &options)
        : session_(graph_file(bundle), options) {
        const std::string path = path_text(graph_file(bundle));
        manifest_ = read_manifest(path, [this](const std::string &key) { return session_.metadata(key); });
        check_interface(session_.described(), manifest_, path + " is no graph of fusioncam's",
                        "make one with `fusioncam export --single`");
        inputs_ = inputs_of(manifest_);
        outputs_ = outputs_of(manifest_);
    }

    const Manifest &manifest() const { return manifest_; }

    /// All outputs by name, for a preprocessed input of C * H * W finite values and a target that was checked.
    Outputs run(const float *x, const TargetTensors &target, const Ort::RunOptions &options) const {
        return session_.run(inputs_, outputs_, x, target, options);
    }

  private:
    Session session_;
    Manifest manifest_;
    std::vector<Tensor> inputs_, outputs_;
};

} // namespace detail
} // namespace fusioncam

#endif
