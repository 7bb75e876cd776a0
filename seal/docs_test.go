package seal_test

// This file executes docs/sealing.md. It imports nothing of this module, so
// that it stands for a team that has the page, its data and no Gatehouse.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docsPage is what the page holds for machines.
type docsPage struct {
	text  string
	parts map[string]docsPart // by name, such as "wrap IV"

	inputJSON string
	input     struct {
		MasterSecret     string   `json:"masterSecret"`
		OrganizationSalt hexBytes `json:"organizationSalt"`
		Context          struct {
			Environment  string   `json:"environment"`
			Organization string   `json:"organization"`
			Kind         string   `json:"kind"`
			ID           string   `json:"id"`
			Version      int64    `json:"version"`
			Fields       []string `json:"fields"`
		} `json:"context"`
		Sealed []hexBytes `json:"sealed"`
	}
	intermediate struct {
		OrganizationKey hexBytes `json:"organizationKey"`
		WrapKey         hexBytes `json:"wrapKey"`
		WrapData        hexBytes `json:"wrapData"`
		DataKey         hexBytes `json:"dataKey"`
		PayloadData     hexBytes `json:"payloadData"`
		Plaintext       string   `json:"plaintext"`
	}
	record struct {
		ID         string   `json:"id"`
		Salt       hexBytes `json:"salt"`
		Iterations int      `json:"iterations"`
		Check      hexBytes `json:"check"`
	}
	program string
}

// docsPart is a row of the table of the layout; end is -1 for the last.
type docsPart struct{ start, end int }

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readDocs(t testing.TB) *docsPage {
	t.Helper()
	b, err := os.ReadFile("../docs/sealing.md")
	if err != nil {
		t.Fatal(err)
	}
	page := &docsPage{text: string(b), parts: make(map[string]docsPart)}
	block := func(info string) string {
		_, after, found := strings.Cut(page.text, "\n```"+info+"\n")
		text, _, closed := strings.Cut(after, "\n```\n")
		if !found || !closed {
			t.Fatalf("the page has no block %q", info)
		}
		return text
	}
	page.inputJSON = block("json input")
	for text, into := range map[string]any{
		page.inputJSON:             &page.input,
		block("json intermediate"): &page.intermediate,
		block("json record"):       &page.record,
	} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	page.program = block("js recover.mjs")

	offset := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (\d+|rest) \| ([^:|]+)`).FindAllStringSubmatch(page.text, -1) {
		start, _ := strconv.Atoi(row[1])
		if start != offset {
			t.Fatalf("part %q starts at %d, the one before ends at %d", row[3], start, offset)
		}
		end := -1
		if length, err := strconv.Atoi(row[2]); err == nil {
			end = start + length
		}
		offset = end
		page.parts[strings.TrimSpace(row[3])] = docsPart{start, end}
	}
	if offset != -1 || len(page.parts) != 9 {
		t.Fatalf("the layout has %d parts and ends at %d", len(page.parts), offset)
	}
	return page
}

func (p *docsPage) sealed() []byte { return slices.Concat(convert(p.input.Sealed)...) }

func convert(in []hexBytes) (out [][]byte) {
	for _, b := range in {
		out = append(out, b)
	}
	return out
}

// part gives a part of the sealed value by the page's table.
func (p *docsPage) part(t *testing.T, name string) []byte {
	t.Helper()
	part, found := p.parts[name]
	if !found {
		t.Fatalf("the layout has no part %q", name)
	}
	if part.end == -1 {
		return p.sealed()[part.start:]
	}
	return p.sealed()[part.start:part.end]
}

// label makes sure that the page has the label in it.
func (p *docsPage) label(t *testing.T, label string) string {
	t.Helper()
	if !strings.Contains(p.text, "`"+label+"`") {
		t.Errorf("the page does not have the label %s", label)
	}
	return label
}

// TestDocsWorkedExample goes from the master secret to the plaintext and
// compares every value on the way.
func TestDocsWorkedExample(t *testing.T) {
	page := readDocs(t)
	c := page.input.Context

	if got := string(page.part(t, "magic")); got != "GHS" {
		t.Errorf("magic is %q", got)
	}
	if got := page.part(t, "suite"); got[0] != 1 {
		t.Errorf("suite is %d", got[0])
	}
	line := 0
	for _, name := range []string{"magic", "suite", "key id", "iterations", "version salt", "wrap IV", "wrapped key", "payload IV", "payload"} {
		same(t, "line of "+name, page.input.Sealed[line], page.part(t, name))
		line++
	}
	iterations := int(binary.BigEndian.Uint32(page.part(t, "iterations")))

	context := []byte{1}
	for _, s := range []string{c.Environment, c.Organization, c.Kind, c.ID} {
		context = lengthPrefixed(context, s)
	}
	context = binary.BigEndian.AppendUint64(context, uint64(c.Version))
	context = binary.BigEndian.AppendUint32(context, uint32(len(c.Fields)))
	slices.Sort(c.Fields)
	for _, field := range c.Fields {
		context = lengthPrefixed(context, field)
	}

	organizationKey := docsPBKDF2(t, page.input.MasterSecret, page.label(t, "gatehouse/seal/1/organization-key"), page.input.OrganizationSalt, iterations)
	same(t, "organizationKey", organizationKey, page.intermediate.OrganizationKey)

	wrapKey := docsHKDF(t, organizationKey, page.part(t, "version salt"), page.label(t, "gatehouse/seal/1/wrap-key"))
	same(t, "wrapKey", wrapKey, page.intermediate.WrapKey)

	wrapData := append(lengthPrefixed(nil, page.label(t, "gatehouse/seal/1/wrap")), context...)
	wrapData = slices.Concat(wrapData, page.part(t, "key id"), page.part(t, "iterations"), page.part(t, "version salt"))
	same(t, "wrapData", wrapData, page.intermediate.WrapData)

	dataKey := docsGCM(t, wrapKey, page.part(t, "wrap IV"), page.part(t, "wrapped key"), wrapData)
	same(t, "dataKey", dataKey, page.intermediate.DataKey)

	payloadData := append(lengthPrefixed(nil, page.label(t, "gatehouse/seal/1/payload")), context...)
	same(t, "payloadData", payloadData, page.intermediate.PayloadData)

	plaintext := docsGCM(t, dataKey, page.part(t, "payload IV"), page.part(t, "payload"), payloadData)
	same(t, "plaintext", plaintext, []byte(page.intermediate.Plaintext))

	var fields map[string]string
	if err := json.Unmarshal(plaintext, &fields); err != nil || len(fields) != len(c.Fields) {
		t.Errorf("the plaintext is not the fields: %v", err)
	}
}

func TestDocsKeyRecord(t *testing.T) {
	page := readDocs(t)
	stretched := docsPBKDF2(t, page.input.MasterSecret, page.label(t, "gatehouse/seal/1/key-record"), page.record.Salt, page.record.Iterations)
	check := docsHKDF(t, stretched, nil, page.label(t, "gatehouse/seal/1/key-check"))
	same(t, "check", check, page.record.Check)
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(page.record.ID, "key_"), "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "key id", page.part(t, "key id"), id)
}

// TestDocsRecoveryProgram runs the page's program where there is Node, on both
// notations of the sealed bytes that the page allows, and on a forgery.
func TestDocsRecoveryProgram(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node on the PATH")
	}
	page := readDocs(t)
	program := filepath.Join(t.TempDir(), "recover.mjs")
	if err := os.WriteFile(program, []byte(page.program), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(input string) (string, error) {
		cmd := exec.CommandContext(t.Context(), node, program)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output()
		return string(out), err
	}
	joined := regexp.MustCompile(`(?s)"sealed": \[.*\]`).ReplaceAllString(page.inputJSON, `"sealed": "`+hex.EncodeToString(page.sealed())+`"`)
	if joined == page.inputJSON {
		t.Fatal("the input has no array of sealed bytes")
	}
	for _, input := range []string{page.inputJSON, joined} {
		if got, err := run(input); err != nil || got != page.intermediate.Plaintext {
			t.Errorf("the program prints %q, %v", got, err)
		}
	}
	forged := strings.Replace(page.inputJSON, `"version": 3`, `"version": 4`, 1)
	if got, err := run(forged); err == nil || got != "" {
		t.Errorf("of another version the program prints %q", got)
	}
}

func docsPBKDF2(t *testing.T, secret, label string, salt []byte, iterations int) []byte {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, secret, slices.Concat([]byte(label), salt), iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func docsHKDF(t *testing.T, input, salt []byte, info string) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, input, salt, info, 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func docsGCM(t *testing.T, key, iv, ciphertext, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := aead.Open(nil, iv, ciphertext, data)
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}

func lengthPrefixed(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func same(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %x, the page says %x", name, got, want)
	}
}
