"""DICOM: series of slices to volumes, segmentations in and out. pydicom is imported when a file is read."""
