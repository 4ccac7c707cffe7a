"""Label files of annotation tools as layouts of `prepare`: COCO, YOLO, LabelMe, CVAT, Label Studio, GeoJSON."""
