// What the drivers of the tests share: they do what the lines of their standard input say, and answer each in one line,
// "ok ..." or "KIND: text of the error". Arrays go through files, as raw values.
#ifndef DRIVER_HPP
#define DRIVER_HPP

#include <atomic>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fusioncam/error.hpp>
#include <fusioncam/explanation.hpp>
#include <fusioncam/picture.hpp>
#include <fusioncam/target.hpp>

namespace fc = fusioncam;

namespace {

/// What Python calls it.
std::string kind_of(const fc::Error &error) {
    const auto is = [&error](auto *kind) { return dynamic_cast<decltype(kind)>(&error) != nullptr; };
    return is(static_cast<const fc::UsageError *>(nullptr))       ? "UsageError"
           : is(static_cast<const fc::BundleError *>(nullptr))    ? "BundleError"
           : is(static_cast<const fc::ImageError *>(nullptr))     ? "ImageError"
           : is(static_cast<const fc::OutputError *>(nullptr))    ? "OutputError"
           : is(static_cast<const fc::DeadlineError *>(nullptr))  ? "DeadlineError"
           : is(static_cast<const fc::NotFiniteError *>(nullptr)) ? "NotFiniteError"
                                                                  : "FusionCamError";
}

/// A locale in which numbers look as in German, where the header must not take or give them so.
struct German : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

template <typename T> std::vector<T> load(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<T> values(bytes.size() / sizeof(T));
    std::copy_n(bytes.data(), values.size() * sizeof(T), reinterpret_cast<char *>(values.data()));
    return values;
}

template <typename T> void save(const std::string &path, const std::vector<T> &values) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char *>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

/// The arguments of a command, in their order.
struct Arguments {
    std::istringstream stream;

    std::string word() {
        std::string value;
        std::getline(stream, value, '\t');
        return value;
    }
    std::int64_t number() { return std::stoll(word()); }
    fc::Photo photo() {
        fc::Photo result;
        result.rgb = load<std::uint8_t>(word());
        result.size.height = static_cast<std::size_t>(number());
        result.size.width = static_cast<std::size_t>(number());
        return result;
    }
    /// The size of a photo; none where it is 0 x 0.
    std::optional<fc::Size> size() {
        const auto height = static_cast<std::size_t>(number()), width = static_cast<std::size_t>(number());
        return height ? std::optional(fc::Size{height, width}) : std::nullopt;
    }
    /// "class", "region", "box" or "like", the class, whether its peak, the file of the mask or the reference, or of the
    /// box and the least score, or "", and the size of the mask.
    fc::Target target() {
        const std::string kind = word();
        const std::int64_t index = number();
        const bool peak = number() != 0;
        const std::string path = word();
        const auto height = static_cast<std::size_t>(number()), width = static_cast<std::size_t>(number());
        if (kind == "like") {
            return fc::Like{load<float>(path)};
        }
        if (kind == "class") {
            return fc::Class{index};
        }
        if (kind == "box") {
            fc::Box box{index, {}, {}};
            const std::vector<double> numbers = path.empty() ? std::vector<double>{} : load<double>(path);
            if (numbers.size() >= 4) {
                box.box = {numbers[0], numbers[1], numbers[2], numbers[3]};
            }
            if (numbers.size() % 4) {
                box.conf = numbers.back();
            }
            return box;
        }
        const fc::Mask mask{{height, width}, load<std::uint8_t>(path)};
        return fc::Region{index, path.empty() ? std::nullopt : std::optional(mask), peak};
    }
};

/// Writes detections: box, class, score, anchor; gives their titles.
inline std::string report(const std::vector<fc::Detection> &detections, const std::string &to) {
    std::vector<double> rows;
    std::string titles;
    for (const fc::Detection &d : detections) {
        rows.insert(rows.end(), d.box.begin(), d.box.end());
        rows.insert(rows.end(), {static_cast<double>(d.class_index), d.score, static_cast<double>(d.anchor)});
        titles += d.title() + "\t";
    }
    save(to, rows);
    return titles;
}

/// Writes the arrays to files that begin with `to`, and gives the rest.
std::string report(const fc::Explanation &e, const std::string &to) {
    for (const auto &[method, saliency] : e.maps) {
        save(to + "." + method, saliency.values);
        if (e.photo_size) {
            save(to + "." + method + ".photo", e.on_photo(method).values);
        }
    }
    save(to + ".logits", e.logits);
    save(to + ".probabilities", e.probabilities);
    save(to + ".scores", std::vector<double>{e.score, e.probability});
    save(to + ".explained_region", e.region.values);
    save(to + ".embedding", e.embedding);
    save(to + ".box", e.box ? std::vector<double>(e.box->begin(), e.box->end()) : std::vector<double>{});
    report(e.detections, to + ".detections");
    std::string flags;
    for (const std::string &flag : e.flags) {
        flags += (flags.empty() ? "" : ",") + flag;
    }
    return std::to_string(e.class_index) + "\t" + e.title() + "\t" + flags;
}

/// Explains a preprocessed input: its file, the class, where to write, and the shape.
template <typename Explainer> std::string explain_input(const Explainer &opener, Arguments &a) {
    const std::vector<float> values = load<float>(a.word());
    const std::int64_t index = a.number();
    const std::string to = a.word();
    std::vector<std::int64_t> shape;
    while (a.stream.good()) {
        shape.push_back(a.number());
    }
    return report(opener.explain(fc::InputView{values.data(), shape}, index), to);
}

/// Explains a photo: its file and size, the class, and where to write.
template <typename Explainer> std::string explain_photo(const Explainer &opener, Arguments &a) {
    const fc::Photo photo = a.photo();
    const std::int64_t index = a.number();
    return report(opener.explain(photo, index), a.word());
}

/// Explains a target of a photo: its file and size, the target, and where to write.
template <typename Explainer> std::string explain_target(const Explainer &opener, Arguments &a) {
    const fc::Photo photo = a.photo();
    const fc::Target target = a.target();
    return report(opener.explain(photo, target), a.word());
}

/// One explainer, several threads, each its own class: every result must be that of a lone run, to the bit.
template <typename Explainer> std::string explain_in_threads(const Explainer &opener, Arguments &a) {
    const fc::Photo photo = a.photo();
    const auto classes = static_cast<std::int64_t>(opener.manifest().classes);
    std::vector<fc::Explanation> alone;
    for (std::int64_t c = 0; c < classes; ++c) {
        alone.push_back(opener.explain(photo, c));
    }
    std::atomic<int> equal{0};
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (std::int64_t i = 0; i < 10; ++i) {
                const auto c = static_cast<std::size_t>((t + i) % classes);
                const fc::Explanation e = opener.explain(photo, static_cast<std::int64_t>(c));
                bool same = e.logits == alone[c].logits && e.label == alone[c].label;
                for (const auto &[method, saliency] : e.maps) {
                    same = same && saliency.values == alone[c].map(method).values;
                }
                equal += same;
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    return std::to_string(equal) + " of 80 equal";
}

using Commands = std::map<std::string, std::string (*)(Arguments &&)>;

/// Answers the lines of standard input.
int answer_lines(const Commands &commands) {
    std::locale::global(std::locale(std::locale::classic(), new German));
    for (std::string line; std::getline(std::cin, line);) {
        const std::size_t tab = line.find('\t');
        try {
            Arguments arguments{std::istringstream(tab == std::string::npos ? "" : line.substr(tab + 1))};
            const std::string answer = commands.at(line.substr(0, tab))(std::move(arguments));
            std::cout << "ok " << answer << std::endl;
        } catch (const fc::Error &error) {
            std::cout << kind_of(error) << ": " << error.what() << std::endl;
        }
    }
    return 0;
}

} // namespace

#endif
