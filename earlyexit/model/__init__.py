"""What runs on an image: backbone, necks, heads, exits, detector, and the factories that put them together."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backbone": ["AttentionBlock", "DynPerceiver", "Exit", "NUM_EXITS", "Write"],
        "detector": ["EarlyExitRetinaNet"],
        "exits": [
            "Agreement",
            "Certainty",
            "DetectionScore",
            "MaxSoftmax",
            "RULES",
            "Router",
            "Rule",
            "SkipEmpty",
            "Worth",
            "exit_confidence",
            "make_rule",
            "rule_features",
            "worth_features",
        ],
        "export": ["OnnxDetector", "export_onnx", "for_inference"],
        "factories": [
            "ExitClassifier",
            "dyn_retinanet_nano",
            "dyn_retinanet_regnet_y_800mf",
            "load_detector",
            "load_init",
        ],
        "heads": ["EarlyExitFPN", "EarlyPyramid", "STRIDES", "retinanet_anchors"],
        "inputs": ["network_size"],
        "trunks": ["Chain", "Trunk", "as_trunk"],
    },
)
