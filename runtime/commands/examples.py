"""Examples of every command, shown below the options of its `--help`; the tests run each."""

EXAMPLES = {
    "inspect": (
        "fusioncam inspect model.onnx",
        "fusioncam inspect model.onnx --all --json",
        "fusioncam inspect model.fcam --providers cpu",
    ),
    "export": (
        "fusioncam export model.onnx -o cats.fcam --labels labels.txt --preset unit",
        "fusioncam export model.onnx --single --for tensorrt --chunk 32",
        "fusioncam export model.onnx --precision int8 --calibrate photos",
    ),
    "explain": (
        "fusioncam explain model.fcam photo.jpg",
        "fusioncam explain model.fcam photo.jpg -c tabby --versus 'egyptian cat'",
        "fusioncam explain model.fcam photo.jpg -k 2 --budget auto --verify",
        "fusioncam explain model.fcam photos -r --resume -o out",
    ),
    "evaluate": (
        "fusioncam evaluate model.fcam photos",
        "fusioncam evaluate model.fcam photos -o quick --metrics drop --budget 0.2",
        "fusioncam evaluate model.fcam photos -o boxes --annotations boxes.json",
    ),
    "check": (
        "fusioncam check model.fcam",
        "fusioncam check int8.fcam --source model.onnx --photos photos",
    ),
    "bench": (
        "fusioncam bench model.fcam",
        "fusioncam bench model.fcam photo.jpg --rounds 3 -o bench.json",
    ),
    "serve": (
        "fusioncam serve model.fcam --deadline 500ms --grpc-port 8001",
        "fusioncam serve cats=model.fcam --host 0.0.0.0 --token-file token.txt",
        "fusioncam serve model.fcam --workers 2 --threads 1 --port 8080",
    ),
    "triton": (
        "fusioncam triton model.fcam --repo models --form bls",
        "fusioncam triton single.fcam --repo models --name cats",
    ),
    "demo": (
        "fusioncam demo",
        "fusioncam demo --task segment",
        "fusioncam demo --web",
        "fusioncam demo --web --bundle model.fcam --port 8080",
    ),
}


def epilog(command: str) -> str:
    """Return the end of a command's help: its examples, one a line."""
    return "\b\n" + "\n  ".join(("Examples:", *EXAMPLES[command]))  # \b keeps the parser from joining the lines
