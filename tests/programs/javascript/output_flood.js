while (true) {
  console.log("flood flood flood flood flood flood flood flood flood flood");
}
