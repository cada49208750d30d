// Command cri does with a container runtime what a kubelet does for one pod: it
// speaks the CRI (gRPC, runtime.v1) over the runtime's socket. Debian has neither
// crictl nor the CRI's Go types, and the five messages needed are small, so both
// gRPC's framing and the messages are written out here over plain HTTP/2.
//
//	cri [flags] run NAME HOST:CONTAINER IMAGE COMMAND...   prints the pod's ID
//	cri [flags] status ID                                  prints the pod's address
//	cri [flags] stop|remove ID
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http2"
)

var (
	socket  = flag.String("socket", "/run/containerd/containerd.sock", "the runtime's socket")
	timeout = flag.Duration("timeout", 60*time.Second, "limit for the whole run")
)

// message is an encoded protobuf message.
type message []byte

func (m message) tag(field, wireType int) message {
	return m.varint(uint64(field<<3 | wireType))
}

func (m message) varint(value uint64) message {
	var buffer [binary.MaxVarintLen64]byte
	return append(m, buffer[:binary.PutUvarint(buffer[:], value)]...)
}

func (m message) number(field, value int) message {
	return m.tag(field, 0).varint(uint64(value))
}

func (m message) bytes(field int, value []byte) message {
	return append(m.tag(field, 2).varint(uint64(len(value))), value...)
}

func (m message) text(field int, values ...string) message {
	for _, value := range values {
		m = m.bytes(field, []byte(value))
	}
	return m
}

// find follows a path of field numbers through nested messages and returns the
// last one, or nothing. Only the wire types that the CRI uses are understood.
func (m message) find(path ...int) message {
	if len(path) == 0 {
		return m
	}
	for len(m) > 0 {
		key, n := binary.Uvarint(m)
		if n <= 0 {
			return nil
		}
		m = m[n:]
		value, n := binary.Uvarint(m)
		if n <= 0 {
			return nil
		}
		m = m[n:]
		switch key & 7 {
		case 0: // a number: read already
		case 2:
			if value > uint64(len(m)) {
				return nil
			}
			if int(key>>3) == path[0] {
				return m[:value].find(path[1:]...)
			}
			m = m[value:]
		default:
			return nil
		}
	}
	return nil
}

// call is one unary gRPC call: a five-byte prefix (no compression, length), the
// message, and the status in the trailers of the answer.
func call(ctx context.Context, method string, request message) (message, error) {
	body := make([]byte, 5, 5+len(request))
	binary.BigEndian.PutUint32(body[1:], uint32(len(request)))
	post, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://localhost/runtime.v1.RuntimeService/"+method, bytes.NewReader(append(body, request...)))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/grpc")
	post.Header.Set("TE", "trailers")
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLS: func(_, _ string, _ *tls.Config) (net.Conn, error) {
			return net.Dial("unix", *socket)
		},
	}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(post)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	status, text := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if status == "" { // an error without a message comes in the headers alone
		status, text = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	if status != "0" {
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		return nil, fmt.Errorf("%s: gRPC status %q: %s", method, status, text)
	}
	if len(answer) < 5 {
		return nil, fmt.Errorf("%s: answer of %d bytes", method, len(answer))
	}
	return answer[5:], nil
}

// podConfig is a PodSandboxConfig with an own network namespace and one TCP port.
func podConfig(name string, hostPort, containerPort int) message {
	metadata := message{}.text(1, name).text(2, name+"-uid").text(3, "integration")
	port := message{}.number(2, containerPort).number(3, hostPort)
	// Namespace options, all zero: network, PID and IPC of the pod's own.
	security := message{}.bytes(1, nil)
	return message{}.bytes(1, metadata).text(2, name).bytes(5, port).bytes(8, message{}.bytes(2, security))
}

func runPod(ctx context.Context, name, ports, image string, command []string) (string, error) {
	var hostPort, containerPort int
	if _, err := fmt.Sscanf(ports, "%d:%d", &hostPort, &containerPort); err != nil {
		return "", fmt.Errorf("port mapping %q: %w", ports, err)
	}
	pod := podConfig(name, hostPort, containerPort)
	answer, err := call(ctx, "RunPodSandbox", message{}.bytes(1, pod))
	if err != nil {
		return "", err
	}
	id := string(answer.find(1))
	container := message{}.bytes(1, message{}.text(1, "main")).bytes(2, message{}.text(1, image)).text(3, command...)
	answer, err = call(ctx, "CreateContainer", message{}.text(1, id).bytes(2, container).bytes(3, pod))
	if err != nil {
		return id, err
	}
	_, err = call(ctx, "StartContainer", message{}.text(1, string(answer.find(1))))
	return id, err
}

func run(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("usage: cri [flags] run NAME HOST:CONTAINER IMAGE COMMAND... | status ID | stop ID | remove ID")
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	byID := message{}.text(1, words[1])
	switch {
	case words[0] == "run" && len(words) > 4:
		id, err := runPod(ctx, words[1], words[2], words[3], words[4:])
		fmt.Println(id)
		return err
	case words[0] == "status":
		answer, err := call(ctx, "PodSandboxStatus", byID)
		fmt.Println(string(answer.find(1, 5, 1))) // status.network.ip
		return err
	case words[0] == "stop":
		_, err := call(ctx, "StopPodSandbox", byID)
		return err
	case words[0] == "remove":
		_, err := call(ctx, "RemovePodSandbox", byID)
		return err
	}
	return fmt.Errorf("unknown command %q", words[0])
}

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}
