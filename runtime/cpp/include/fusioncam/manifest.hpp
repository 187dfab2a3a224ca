// What a single graph says about itself in its metadata (metadata_props): no JSON, no folder needed.
#ifndef FUSIONCAM_MANIFEST_HPP
#define FUSIONCAM_MANIFEST_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <locale>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "error.hpp"
#include "picture.hpp"

namespace fusioncam {

/// How a picture becomes the input: x = (pixel * rescale - mean) / std on 0..255 pixels.
struct Preprocessing {
    Size size;                         ///< of the model's input
    std::string channel_order = "rgb"; ///< rgb, bgr or grey of photos; bands, or their numbers: photos have none
    double rescale = 1;                ///< factor applied to the 0..255 pixel first
    std::vector<double> mean{0, 0, 0}; ///< one per channel of the model, in its order
    std::vector<double> std{1, 1, 1};
    std::string resize = "squash";   ///< squash, crop, squash_crop, crop_first or letterbox: see fusioncam/geometry.hpp
    double crop_fraction = 1;        ///< side of the crop over the side of the (resized) picture; not for squash
    std::string crop_rounding = "even"; ///< where the cut begins if an odd number of pixels is left: even or down
    std::string interpolation = "bilinear"; ///< the filter: Pillow's, or cv2-linear, OpenCV's
    std::vector<double> pad{114, 114, 114}; ///< what fills a letterbox, 0..255: one per channel of the model
    std::string pad_place = "centre";       ///< where the picture lies in a letterbox: centre or corner (upper left)
    std::string pad_rounding = "even";      ///< of its sides: even (to the nearest), up (halves up) or down
    std::string origin = "user";            ///< who says so: user, model, config or assumed

    std::size_t channels() const { return mean.size(); } ///< C of the model's input
    bool takes_photos() const {                          ///< whether the channels are those of photos
        return channel_order == "rgb" || channel_order == "bgr" || channel_order == "grey";
    }
};

/// The boxes of a detector, and the thresholds by which some of them are detections.
struct BoxFacts {
    std::size_t anchors = 0;               ///< places or queries that give a box each
    std::optional<std::size_t> background; ///< the class that stands for no object
    double conf = 0.25;                    ///< the least score of a detection
    double iou = 0.7;                      ///< the overlap by which the lower of two is a duplicate
    bool class_wise = true;                ///< only boxes of one class are duplicates
    bool nms = true;                       ///< duplicates are looked for
    bool multi_label = false;              ///< every class above conf is a detection, and not the best one alone
    std::size_t most = 300;                ///< detections of a picture
    std::string extra = "none";            ///< what follows the numbers of classes: none, masks, keypoints or rotated
    std::size_t extras = 0;                ///< how many numbers that are
};

/// The facts about a graph that an explanation needs.
struct Manifest {
    Preprocessing preprocessing;
    std::string task = "classify";   ///< what a target is: classify (a class, or a value), segment, value, embed or detect
    std::size_t classes = 0;         ///< or the length of an embedding
    Size map_size;                   ///< of the maps of classes or values; 0 x 0 where there are none
    BoxFacts boxes;                  ///< of a detector
    std::string ending;              ///< how logits become probabilities: logits or softmax (a softmax), sigmoid, value
    std::string reach = "reached";   ///< whether the logits are the model's own: reached, out_of_reach or doubtful
    std::string layer;               ///< name of the target layer
    std::string source_sha256;       ///< of the model's file
    std::vector<std::string> labels; ///< one per class, or none

    bool has_maps() const { return map_size.height != 0; }    ///< whether a target is a class over a region
    bool is_embedding() const { return task == "embed"; }      ///< whether a target is the likeness to a vector
    bool is_detector() const { return task == "detect"; }      ///< whether a target is a detection

    /// Numbers of classes of each anchor: one more than classes where the background comes last.
    std::size_t numbers() const { return classes + (boxes.background == classes); }
};

namespace detail {

/// Gives the value of a key of the metadata, or nothing.
using Lookup = std::function<std::optional<std::string>(const std::string &)>;

/// Reads typed values of the metadata; whatever is not as it should be throws BundleError.
class MetadataReader {
  public:
    MetadataReader(std::string path, Lookup lookup) : path_(std::move(path)), lookup_(std::move(lookup)) {}

    std::string text(const std::string &key) const {
        const std::optional<std::string> found = lookup_("fusioncam." + key);
        if (!found) {
            throw BundleError(path_ + " does not say its fusioncam." + key + "; export the model again, with --single");
        }
        return *found;
    }

    std::string one_of(const std::string &key, std::initializer_list<const char *> choices) const {
        const std::string value = text(key);
        if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
            refuse(key, value);
        }
        return value;
    }

    /// The same of a key that older graphs lack: the first choice is what they do.
    std::string one_of_or_first(const std::string &key, std::initializer_list<const char *> choices) const {
        return lookup_("fusioncam." + key) ? one_of(key, choices) : *choices.begin();
    }

    /// `count` numbers separated by blanks, each of which must pass; a count of 0 stands for any, but none.
    template <typename Number>
    std::vector<Number> numbers(const std::string &key, std::size_t count, bool (*passes)(Number)) const {
        const std::string value = text(key);
        std::istringstream stream(value);
        stream.imbue(std::locale::classic()); // the decimal point is a point, whatever the program's locale says
        std::vector<Number> result;
        for (Number number{}; stream >> number;) {
            result.push_back(number);
        }
        const bool is_count = count ? result.size() == count : !result.empty();
        if (!stream.eof() || !is_count || !std::all_of(result.begin(), result.end(), passes)) {
            refuse(key, value);
        }
        return result;
    }

    std::vector<std::string> lines(const std::string &key) const {
        std::vector<std::string> result;
        const std::optional<std::string> found = lookup_("fusioncam." + key);
        for (std::size_t begin = 0; found && begin <= found->size();) {
            const std::size_t end = std::min(found->find('\n', begin), found->size());
            result.push_back(found->substr(begin, end - begin));
            begin = end + 1;
        }
        return result;
    }

    [[noreturn]] void refuse(const std::string &key, const std::string &value) const {
        const std::string shown = value.size() > 60 ? value.substr(0, 60) + "..." : value;
        throw BundleError(path_ + " cannot be read or is of another version (its fusioncam." + key + " is " +
                          quoted(shown) + "); export the model again, with --single");
    }

    const std::string &path() const { return path_; }

  private:
    std::string path_;
    Lookup lookup_;
};

/// The facts about a detector's boxes.
inline BoxFacts read_boxes(const MetadataReader &reader, const Lookup &lookup, std::size_t classes) {
    const auto positive = +[](std::int64_t n) { return n > 0; };
    const auto natural = +[](std::int64_t n) { return n >= 0; };
    const auto bit = +[](std::int64_t n) { return n == 0 || n == 1; };
    const auto share = +[](double x) { return x >= 0 && x <= 1; };
    const auto count = [&](const char *key, bool (*passes)(std::int64_t)) {
        return static_cast<std::size_t>(reader.numbers<std::int64_t>(key, 1, passes)[0]);
    };
    BoxFacts facts;
    facts.anchors = count("anchors", positive);
    if (lookup("fusioncam.background")) {
        facts.background = count("background", natural);
        if (*facts.background > classes) {
            reader.refuse("background", std::to_string(*facts.background));
        }
    }
    facts.conf = reader.numbers<double>("conf", 1, share)[0];
    facts.iou = reader.numbers<double>("iou", 1, share)[0];
    facts.class_wise = count("class_wise", bit) == 1;
    facts.nms = count("nms", bit) == 1;
    facts.multi_label = count("multi_label", bit) == 1;
    facts.most = count("most", positive);
    facts.extra = reader.one_of("extra", {"none", "masks", "keypoints", "rotated"});
    facts.extras = count("extras", natural);
    if (facts.extra == "rotated" && facts.extras != 5) {
        reader.refuse("extras", std::to_string(facts.extras));
    }
    return facts;
}

/// The whole manifest of a graph; throws BundleError where a fact is missing or makes no sense.
inline Manifest read_manifest(const std::string &path, const Lookup &lookup) {
    if (!lookup("fusioncam.schema_version")) {
        throw BundleError(path + " is no graph of fusioncam's: it has no fusioncam.schema_version; make one with "
                                 "`fusioncam export --single`");
    }
    const MetadataReader reader(path, lookup);
    const auto positive = +[](std::int64_t n) { return n > 0; };
    const auto finite = +[](double x) { return std::isfinite(x); };
    const auto factor = +[](double x) { return std::isfinite(x) && x != 0; };
    const auto fraction = +[](double x) { return x > 0 && x <= 1; };

    reader.one_of("schema_version", {"1", "2", "3"});
    Manifest m;
    Preprocessing &p = m.preprocessing;
    const auto size_of = [&](const std::string &key) {
        const auto size = reader.numbers<std::int64_t>(key, 2, positive);
        return Size{static_cast<std::size_t>(size[0]), static_cast<std::size_t>(size[1])};
    };
    p.size = size_of("size");
    p.channel_order = reader.text("channel_order");
    p.rescale = reader.numbers<double>("rescale", 1, factor)[0];
    p.mean = reader.numbers<double>("mean", p.takes_photos() ? p.channel_order == "grey" ? 1 : 3 : 0, finite);
    p.std = reader.numbers<double>("std", p.channels(), factor);
    if (!p.takes_photos() && p.channel_order != "bands") { // the numbers of bands, one per channel
        reader.numbers<std::int64_t>("channel_order", p.channels(), positive);
    }
    p.resize = reader.one_of("resize", {"squash", "crop", "squash_crop", "crop_first", "letterbox"});
    p.crop_fraction = reader.numbers<double>("crop_fraction", 1, fraction)[0];
    p.crop_rounding = reader.one_of_or_first("crop_rounding", {"even", "down"});
    p.interpolation = reader.one_of_or_first("interpolation",
                                             {"bilinear", "nearest", "bicubic", "lanczos", "box", "hamming", "cv2-linear"});
    if (p.interpolation == "cv2-linear" && p.resize != "squash" && p.resize != "letterbox") {
        reader.refuse("interpolation", p.interpolation);
    }
    if (p.resize == "letterbox") {
        p.pad = reader.numbers<double>("pad", p.channels(), finite);
        p.pad_place = reader.one_of("pad_place", {"centre", "corner"});
        p.pad_rounding = reader.one_of("pad_rounding", {"even", "up", "down"});
    }
    p.origin = reader.one_of("preprocessing_origin", {"user", "model", "config", "assumed"});
    m.task = reader.one_of_or_first("task", {"classify", "segment", "value", "embed", "detect"});
    if (m.task == "segment" || m.task == "value") {
        m.map_size = size_of("map_size");
    }
    m.classes = static_cast<std::size_t>(reader.numbers<std::int64_t>("classes", 1, positive)[0]);
    if (m.is_detector()) {
        m.boxes = read_boxes(reader, lookup, m.classes);
    }
    m.ending = reader.one_of("ending", {"logits", "softmax", "sigmoid", "value"});
    if (lookup("fusioncam.reach")) { // older graphs do not say
        m.reach = reader.one_of("reach", {"reached", "out_of_reach", "doubtful"});
    }
    m.layer = reader.text("layer");
    m.source_sha256 = reader.text("source_sha256");
    m.labels = reader.lines("labels");
    if (!m.labels.empty() && m.labels.size() != m.classes) {
        throw BundleError(path + " has " + std::to_string(m.labels.size()) + " labels for " +
                          std::to_string(m.classes) + " classes; export the model again, with --single");
    }
    return m;
}

} // namespace detail
} // namespace fusioncam

#endif
