"""What is compared, by the names that tables and figures show."""

NETS = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-large",
}
SIDES = (64, 128, 224)
BATCHES = (1, 8, 32)
FLOOR, OURS, TORCHCAM, GRADCAM, PLAIN = "floor", "sftgan", "TorchCAM", "pytorch-grad-cam", "input gradient"
