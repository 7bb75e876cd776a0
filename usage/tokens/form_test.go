package tokens_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// A form as SDKs write it, with the file before or behind.
func TestFormModel(t *testing.T) {
	form := func(fields ...string) (body, contentType string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for i := 0; i+1 < len(fields); i += 2 {
			part := w.CreateFormField
			if fields[i] == "file" {
				part = func(string) (io.Writer, error) { return w.CreateFormFile("file", "model") }
			}
			p, err := part(fields[i])
			if err != nil {
				t.Fatal(err)
			}
			_, _ = p.Write([]byte(fields[i+1]))
		}
		_ = w.Close()
		return b.String(), w.FormDataContentType()
	}
	sound := strings.Repeat("\x00RIFF\r\n--\r\n\r\nname=\"model\"\r\n", 10_000)
	for _, test := range []struct {
		fields []string
		want   string
	}{
		{[]string{"model", "whisper-1", "file", sound}, "whisper-1"},
		{[]string{"file", sound, "language", "de", "model", "gpt-4o-transcribe"}, "gpt-4o-transcribe"},
		{[]string{"file", sound}, ""},
		{[]string{"model", ""}, ""},
		{[]string{"model", "a", "model", "a"}, "a"},
		{[]string{"model", "a", "model", "b"}, tokens.OtherModel},
		{[]string{"model", "=cmd"}, tokens.OtherModel},
		{[]string{"model", strings.Repeat("m", 5000)}, tokens.OtherModel},
		{[]string{"models", "a", "Model", "b"}, ""},
		{append(strings.Split(strings.Repeat("x,y,", 64), ",")[:128], "model", "late"), ""},
	} {
		body, contentType := form(test.fields...)
		if got := tokens.FormModel([]byte(body), contentType); got != test.want {
			t.Errorf("%.60q: %q, want %q", test.fields, got, test.want)
		}
		for i := range 400 { // cut anywhere: nothing breaks
			_ = tokens.FormModel([]byte(body[:min(i, len(body))]), contentType)
		}
	}
	const part = "Content-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n"
	for contentType, body := range map[string]string{
		"multipart/form-data; boundary=b":                             "preamble\r\n--b\r\nContent-Type: text/plain\r\ncontent-disposition: FORM-DATA; name=model\r\n\r\nm\r\n--b--",
		`multipart/form-data; charset=utf-8; boundary="b"`:            "--b\r\n" + part + "--b--\r\n",
		"Multipart/Form-Data; boundary=b; x=y":                        "--b  \r\n" + part + "--b--",
		"multipart/mixed; boundary=b":                                 "",
		"multipart/form-data":                                         "",
		"multipart/form-data; boundary=" + strings.Repeat("b", 71):    "",
		"application/json":                                            "",
		"multipart/form-data; boundary=c; boundary=b":                 "",
		"multipart/form-data; boundary=b; name=file, with a filename": "",
	} {
		want := "m"
		if body == "" {
			want, body = "", "--b\r\n"+part+"--b--"
		}
		if got := tokens.FormModel([]byte(body), contentType); got != want {
			t.Errorf("%s: %q, want %q", contentType, got, want)
		}
	}
	if got := tokens.FormModel([]byte("--b\r\nContent-Disposition: form-data; name=\"model\"; filename=\"x\"\r\n\r\nm\r\n--b--"), "multipart/form-data; boundary=b"); got != "" {
		t.Errorf("a file: %q", got)
	}
	if got := tokens.FormModel([]byte("--b\r\n"+strings.Repeat("X: y\r\n", 1000)+part+"--b--"), "multipart/form-data; boundary=b"); got != "" {
		t.Errorf("a long header: %q", got)
	}
}
