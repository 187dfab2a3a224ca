"""From a model file to a graph of a current opset, with the shape of every tensor."""
