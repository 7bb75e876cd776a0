package tokens

import (
	"bytes"
	"mime"
	"strings"
)

// The bounds of what of a form is looked at.
const (
	maxParts      = 64
	maxPartHeader = 4 << 10
	maxBoundary   = 70 // RFC 2046
)

// FormModel gives the model that a form of multipart/form-data names, through
// [ModelName]; empty where it names none. It looks at the headers of the first parts,
// passes over what is in them, and keeps nothing.
func FormModel(body []byte, contentType string) string {
	media, parameters, err := mime.ParseMediaType(contentType)
	boundary := parameters["boundary"]
	if err != nil || media != "multipart/form-data" || boundary == "" || len(boundary) > maxBoundary {
		return ""
	}
	delimiter := []byte("\r\n--" + boundary)
	rest, ok := bytes.CutPrefix(body, delimiter[2:])
	if !ok {
		_, rest, ok = bytes.Cut(body, delimiter)
	}
	model := ""
	for n := 0; ok && n < maxParts && !bytes.HasPrefix(rest, []byte("--")); n++ {
		end := bytes.Index(rest[:min(len(rest), maxPartHeader)], []byte("\r\n\r\n"))
		if end < 0 {
			return model
		}
		head := rest[:end]
		var content []byte
		content, rest, ok = bytes.Cut(rest[end+4:], delimiter)
		if !ok || !namesModel(head) {
			continue
		}
		name := ModelName(string(content[:min(len(content), MaxModel+1)]))
		if model != "" && model != name { // two readers may take either
			return OtherModel
		}
		model = name
	}
	return model
}

// namesModel reports whether a part with this header is the field model.
func namesModel(header []byte) bool {
	for line := range strings.SplitSeq(string(header), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "Content-Disposition") {
			continue
		}
		disposition, parameters, err := mime.ParseMediaType(value)
		_, file := parameters["filename"]
		return err == nil && disposition == "form-data" && parameters["name"] == "model" && !file
	}
	return false
}
