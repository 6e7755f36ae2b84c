"""Files that hold many records: RecordIO, .bin pickles, webdataset tars."""
